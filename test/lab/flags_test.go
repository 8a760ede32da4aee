package main

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestParseArgs(t *testing.T) {
	base := options{verb: verbRun, backend: backendUML, guest: suiteTrixie, disk: 8 << 30, memory: 2 << 30, timeout: 20 * time.Minute}
	with := func(change func(*options)) options {
		opt := base
		change(&opt)
		return opt
	}
	for _, test := range []struct {
		name string
		args []string
		want options
	}{
		{"defaults", []string{"run", "--", "true"}, with(func(o *options) { o.command = []string{"true"} })},
		{"the command keeps its options", []string{"run", "--disk", "2G", "--", "ls", "--disk", "-l"},
			with(func(o *options) { o.disk = 2 << 30; o.command = []string{"ls", "--disk", "-l"} })},
		{"all options", []string{"run", "--backend", "qemu", "--guest", "bookworm", "--share", "d", "--timeout", "1m", "--no-lls", "--", "x"},
			with(func(o *options) {
				o.backend, o.guest, o.share, o.timeout, o.noLLS = backendQEMU, suiteBookworm, "d", time.Minute, true
				o.command = []string{"x"}
			})},
		{"a shell needs no command", []string{"shell"}, with(func(o *options) { o.verb = verbShell; o.command = []string{"bash", "-l"} })},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseArgs(test.args)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestParseArgsRefuses(t *testing.T) {
	for _, args := range [][]string{
		nil, {"run"}, {"walk", "--", "x"}, {"run", "--backend", "xen", "--", "x"}, {"run", "--guest", "sarge", "--", "x"},
		{"run", "--disk", "8", "--", "x"}, {"run", "--disk", "-1G", "--", "x"}, {"run", "--disk", "9999999999T", "--", "x"},
		{"run", "--timeout", "0s", "--", "x"}, {"prepare", "--", "x"}, {"run", "--frob", "--", "x"},
	} {
		if opt, err := parseArgs(args); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %+v, %v, want a usage error", args, opt, err)
		}
	}
}

func TestQuoteArgs(t *testing.T) {
	got := quoteArgs([]string{"run", "a b", "it's", ""})
	if want := `run 'a b' 'it'\''s' ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
