package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// errUsage marks errors that are the caller's.
var errUsage = errors.New("usage")

const usageText = `usage: lab run [--backend uml|qemu] [--guest trixie|bookworm] [--share DIR] [--disk 8G] [--timeout 20m] [--deb FILE] -- COMMAND ARGS...
       lab shell [the same options]
       lab prepare [--backend uml|qemu] [--guest trixie|bookworm]`

// verb is what the lab is asked to do.
type verb string

const (
	verbRun     verb = "run"
	verbShell   verb = "shell"
	verbPrepare verb = "prepare"
)

// backendName names a way to run a guest; suite names the guest's Debian.
type (
	backendName string
	suite       string
)

const (
	backendUML  backendName = "uml"
	backendQEMU backendName = "qemu"

	suiteTrixie   suite = "trixie"
	suiteBookworm suite = "bookworm"
)

// options is a parsed command line.
type options struct {
	verb    verb
	backend backendName
	guest   suite
	share   string        // folder shown at /share; "" for an empty one
	disk    int64         // bytes
	memory  int64         // bytes
	timeout time.Duration // for the guest, images not counted
	noLLS   bool          // leave LLS out: for work on the lab itself
	deb     string        // a package built before; "" builds this tree's
	command []string
}

func parseArgs(args []string) (options, error) {
	if len(args) == 0 {
		return options{}, fmt.Errorf("%w\n%s", errUsage, usageText)
	}
	opt := options{verb: verb(args[0])}
	set := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set.SetOutput(io.Discard)
	backend := set.String("backend", string(backendUML), "")
	guest := set.String("guest", string(suiteTrixie), "")
	disk := set.String("disk", "8G", "")
	memory := set.String("memory", "2G", "")
	set.StringVar(&opt.share, "share", "", "")
	set.DurationVar(&opt.timeout, "timeout", 20*time.Minute, "")
	set.StringVar(&opt.deb, "deb", "", "")
	set.BoolVar(&opt.noLLS, "no-lls", false, "")
	if err := set.Parse(args[1:]); err != nil {
		return options{}, fmt.Errorf("%w: %v\n%s", errUsage, err, usageText)
	}
	opt.backend, opt.guest, opt.command = backendName(*backend), suite(*guest), set.Args()
	return opt, opt.check(*disk, *memory)
}

// check completes opt and refuses what makes no sense.
func (opt *options) check(disk, memory string) error {
	switch opt.backend {
	case backendUML, backendQEMU:
	default:
		return fmt.Errorf("%w: unknown backend %q: uml or qemu", errUsage, opt.backend)
	}
	switch opt.guest {
	case suiteTrixie, suiteBookworm:
	default:
		return fmt.Errorf("%w: unknown guest %q: trixie or bookworm", errUsage, opt.guest)
	}
	switch opt.verb {
	case verbRun:
		if len(opt.command) == 0 {
			return fmt.Errorf("%w: no command\n%s", errUsage, usageText)
		}
	case verbShell:
		if len(opt.command) == 0 {
			opt.command = []string{"bash", "-l"}
		}
	case verbPrepare:
		if len(opt.command) != 0 {
			return fmt.Errorf("%w: prepare takes no command", errUsage)
		}
	default:
		return fmt.Errorf("%w: unknown verb %q\n%s", errUsage, opt.verb, usageText)
	}
	if opt.timeout <= 0 {
		return fmt.Errorf("%w: --timeout must be positive", errUsage)
	}
	var err error
	if opt.disk, err = parseSize(disk); err != nil {
		return fmt.Errorf("%w: --disk: %v", errUsage, err)
	}
	if opt.memory, err = parseSize(memory); err != nil {
		return fmt.Errorf("%w: --memory: %v", errUsage, err)
	}
	return nil
}

// parseSize reads a size with a binary suffix (M, G or T) as bytes.
func parseSize(s string) (int64, error) {
	shift := 0
	switch {
	case strings.HasSuffix(s, "M"):
		shift = 20
	case strings.HasSuffix(s, "G"):
		shift = 30
	case strings.HasSuffix(s, "T"):
		shift = 40
	default:
		return 0, fmt.Errorf("cannot read size %q: want a number and M, G or T", s)
	}
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	if err != nil || n <= 0 || n > 1<<(62-shift) {
		return 0, fmt.Errorf("cannot read size %q: want a number and M, G or T", s)
	}
	return n << shift, nil
}

// quoteArgs renders args so that they can be pasted into a shell.
func quoteArgs(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$`&|;<>()*?[]{}#~!") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		quoted[i] = arg
	}
	return strings.Join(quoted, " ")
}
