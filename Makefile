# LLS. `make help` lists the targets; each installs what it needs when root runs it, and else prints the command to run.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell cat VERSION)
ARCH := amd64
GO ?= go
LAB := $(GO) run ./test/lab
LDFLAGS := -s -w -X main.version=$(VERSION)
PACKAGES := $(shell sed 's/#.*//' packages.txt)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

.PHONY: tools
tools:
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "missing packages; run: sudo apt-get install$$missing" >&2; exit 1; fi; fi
	@command -v $(GO) >/dev/null || { echo "Go is missing: see https://go.dev/doc/install for the version in go.mod" >&2; exit 1; }

.PHONY: build
build: tools ## build the programs into build/bin
	@mkdir -p build/bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/bin/ ./cmd/lls ./cmd/lls-hook ./cmd/lls-mount
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/bin/ ./cmd/lls-agent

.PHONY: deb
deb: build ## build the Debian package into build/
	@packaging/deb.sh $(VERSION) $(ARCH)

.PHONY: check
check: tools ## the quick part of the tests, without the lab
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@$(GO) run ./test/suite check

# The container's fstab is the most hostile of what is parsed, and gets the most time.
FUZZTIME ?= 5m
FUZZREST ?= 30s

.PHONY: fuzz
fuzz: tools ## random input for all that parses: FUZZTIME each for the fstab, FUZZREST each for the others
	@set -eo pipefail; grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sed -E 's|/[^/]*:func | |' | sort | while read -r package name; do \
	  time='$(FUZZREST)'; if [ "$$package" = ./hooks ]; then time='$(FUZZTIME)'; fi; \
	  echo "== $$package $$name, $$time"; $(GO) test "$$package" -run '^$$' -fuzz "^$$name\$$" -fuzztime "$$time" </dev/null; done

.PHONY: e2e
e2e: tools ## the end-to-end tests, in the lab: every guest, every backend
	@$(GO) run ./test/suite e2e

.PHONY: test
test: tools ## everything that CI checks: check, e2e and demo
	@$(GO) run ./test/suite all

.PHONY: demo
demo: tools ## the main job, told step by step in the lab
	@$(LAB) run --share test/demo -- sh /share/demo.sh

.PHONY: bench
bench: tools ## how fast it is, side by side with typing the LVM commands
	@mkdir -p build/bench
	@CGO_ENABLED=0 $(GO) build -trimpath -o build/bench/ ./test/bench
	@$(LAB) run --share build/bench -- /share/bench

.PHONY: shell
shell: tools ## a guest with LLS and two containers, to play in
	@$(LAB) shell --share test/shell -- /share/shell.sh
