package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// program is a test program: its name, the package it is made of, and, when that must run where no agent of LLS does, the guest that it
// shares with others of that word; the last of them may use the disk.
type program struct {
	name, pkg string
	bare      string
}

// allPrograms are in the order they run.
func allPrograms() []program {
	return []program{
		{"e2e", "./test/e2e", ""},
		{"boot", "./test/boot", ""},
		{"hostile", "./test/hostile", ""},
		{"fault", "./test/fault", ""},
		{"policy", "./test/policy", ""},
		{"filesystem", "./agent/filesystem", "layers"},
		{"mount", "./agent/mount", "layers"},
		{"event", "./agent/event", "event"},
		{"notify", "./agent/notify", "layers"},
		{"thin", "./agent/thin", "layers"},
		{"lvm", "./lvm/lvmtest", "layers"},
	}
}

// build compiles the test programs, this one for the guest, and the helper that the tests of mounts start.
func build(ctx context.Context) ([]program, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	programs := slices.DeleteFunc(allPrograms(), func(p program) bool {
		found, err := filepath.Glob(filepath.Join(p.pkg, "*_test.go"))
		return err != nil || len(found) == 0
	})
	for _, p := range programs {
		if err := goRun(ctx, "test", "-c", "-o", filepath.Join(dir, p.name+".test"), p.pkg); err != nil {
			return nil, fmt.Errorf("cannot build %s: %w", p.pkg, err)
		}
	}
	for name, pkg := range map[string]string{"suite": "./test/suite", "lab": "./test/lab", "lls-mount": "./cmd/lls-mount"} {
		if err := goRun(ctx, "build", "-o", filepath.Join(dir, name), pkg); err != nil {
			return nil, fmt.Errorf("cannot build %s: %w", pkg, err)
		}
	}
	return programs, nil
}

func goRun(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// kind is a guest to run in, and the programs for it; none named means all.
type kind struct {
	guest, backend string
	short          bool
	only           []string
	run            string // the tests, as for -test.run; empty for all
	but            string // the tests that are left out, as for -test.skip
}

// essence are the tests of e2e that a translated processor, ten times slower, has time for: the main job and locked flags.
const essence = "^(TestTheStory|TestLockedFlagsStay)$"

// bootEssence is the same of boot: what a privileged container may open, by the device cgroup of a kernel as Debian has it.
const bootEssence = "^TestRawAccess$/^privileged$/^(read_and_write|read|not_while_it_is_mounted)$"

// permissions are the tests of hostile for which the kernel must let a container withhold what others open, as Debian's does and that of
// user-mode Linux does not.
const permissions = "^TestAContainerThatHasEachOpeningWaitHoldsUpNobodyElse$"

// kinds are the runs in the lab: everything on trixie with user-mode Linux, a short pass of the whole elsewhere. What takes long comes first.
func kinds() []kind {
	return []kind{
		{"bookworm", "qemu", true, []string{"e2e"}, essence, ""}, // LXC 5.0.2, LVM 2.03.16 and Linux 6.1
		{"trixie", "uml", false, nil, "", permissions},
		{"trixie", "qemu", true, []string{"e2e"}, essence, ""},
		{"trixie", "qemu", true, []string{"boot"}, bootEssence, ""},
		{"trixie", "qemu", true, []string{"hostile"}, permissions, ""},
		{"bookworm", "uml", true, []string{"e2e", "boot", "notify", "thin", "lvm"}, "", ""},
	}
}

// guests are the jobs of all kinds.
func guests(ctx context.Context, programs []program) []job {
	var jobs []job
	for _, k := range kinds() {
		shared := map[string][]string{}
		for _, p := range programs {
			switch {
			case len(k.only) > 0 && !slices.Contains(k.only, p.name):
			case p.bare == "":
				jobs = append(jobs, guestJob(ctx, k, p.name))
			default:
				shared[p.bare] = append(shared[p.bare], p.name)
			}
		}
		for _, guest := range slices.Sorted(maps.Keys(shared)) {
			jobs = append(jobs, bareJob(ctx, k, shared[guest]))
		}
	}
	return jobs
}

// labTimeout bounds one guest; testTimeout one test program in it.
const (
	labTimeout  = 50 * time.Minute
	testTimeout = 40 * time.Minute
)

// testFlags are the flags of a test program.
func testFlags(short bool) []string {
	flags := []string{"-test.v", "-test.timeout=" + testTimeout.String()}
	if short {
		flags = append(flags, "-test.short")
	}
	return flags
}

// labRun is the command line of a guest, without what it is to run.
func labRun(k kind) []string {
	return []string{filepath.Join(dir, "lab"), "run", "--guest", k.guest, "--backend", k.backend, "--timeout", labTimeout.String(), "--share", dir}
}

// guestJob is a guest with LLS, which one program has to itself. The program is what the guest runs, since it may reboot it.
func guestJob(ctx context.Context, k kind, name string) job {
	argv := append(append(labRun(k), "--", "env", "LLS_LAB=1", "/share/"+name+".test"), testFlags(k.short)...)
	if k.run != "" {
		argv = append(argv, "-test.run", k.run)
	}
	if k.but != "" {
		argv = append(argv, "-test.skip", k.but)
	}
	return job{name: k.guest + "-" + k.backend + "-" + name, tests: true, cmd: command(ctx, argv...)}
}

// bareJob is a guest without LLS for several programs, which this one runs there.
func bareJob(ctx context.Context, k kind, names []string) job {
	argv := append(labRun(k), "--no-lls", "--", "/share/suite", "guest")
	if k.short {
		argv = append(argv, "-short")
	}
	argv = append(argv, names...)
	return job{name: k.guest + "-" + k.backend + "-" + strings.Join(names, "+"), tests: true, want: names, cmd: command(ctx, argv...)}
}

// inGuest runs test programs of the share, one after the other, and says how each ended.
func inGuest(ctx context.Context, names []string) int {
	short := names[0] == "-short"
	if short {
		names = names[1:]
	}
	status := 0
	for _, name := range names {
		began := time.Now()
		cmd := exec.CommandContext(ctx, path.Join("/share", name+".test"), testFlags(short)...)
		cmd.Env = append(os.Environ(), "LLS_LAB=1")
		cmd.Dir = "/var/tmp"
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.WaitDelay = 5 * time.Second // what it left behind may hold its output
		err := cmd.Run()
		how := "passed"
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			how, status = "FAILED", 1
		}
		fmt.Printf("\n%s%s: %s in %s (%v)\n", mark, name, how, seconds(began), err)
	}
	return status
}
