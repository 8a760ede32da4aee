package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	// A clean shutdown of the guest, its containers included.
	shutdownPatience = 2 * time.Minute
	consoleShown     = 40 // lines
	guestPath        = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...) }

// runLab does what the command line asks. The status is the command's; an error
// is the lab's own failure.
func runLab(ctx context.Context, opt options) (int, error) {
	c, err := openCache()
	if err != nil {
		return 0, err
	}
	h := &host{say: say}
	b := &builder{cache: c, host: h, say: say}
	programs := map[string]string{"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs"}
	if opt.backend == backendQEMU {
		programs["qemu-system-x86_64"], programs["qemu-img"] = "qemu-system-x86", "qemu-utils"
	}
	if err := b.needTools(ctx, programs); err != nil {
		return 0, err
	}
	image, err := b.guestImage(ctx, guestRecipe(opt.backend, opt.guest))
	if err != nil {
		return 0, err
	}
	if opt.verb == verbPrepare {
		return 0, nil
	}
	run, err := c.newRun(ctx)
	if err != nil {
		return 0, err
	}
	defer run.Close()
	plan, err := fillRun(ctx, c, h, run, opt, image)
	if err != nil {
		return 0, err
	}
	cpu, lock, err := claimCPU(c.dir, os.Getpid())
	if err != nil {
		return 0, err
	}
	if lock != nil {
		defer lock.Close()
	}
	plan.cpu = cpu
	be, err := b.backend(ctx, opt.backend, plan)
	if err != nil {
		return 0, err
	}
	log, err := os.Create(run.file("console.log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	s := &session{opt: opt, backend: be, plan: plan, console: &console{file: log}}
	status, err := s.run(ctx)
	if err != nil {
		keepConsole(c, run)
	}
	return status, err
}

// fillRun puts into the run's folder what the guest gets: this program, LLS's
// package, an empty disk, and an empty share if the caller has none.
func fillRun(ctx context.Context, c cache, h *host, run *runDir, opt options, image string) (bootPlan, error) {
	plan := bootPlan{image: image, run: run.path, disk: run.file("disk.img"), memory: opt.memory}
	for _, dir := range []string{"lab", "share"} {
		if err := os.Mkdir(run.file(dir), 0o755); err != nil {
			return plan, err
		}
	}
	if err := copyFile("/proc/self/exe", run.file("lab/lab"), 0o755); err != nil {
		return plan, err
	}
	switch deb := run.file("lab/lls.deb"); {
	case opt.noLLS:
	case opt.deb != "":
		if err := copyFile(opt.deb, deb, 0o644); err != nil {
			return plan, err
		}
	default:
		if err := buildDeb(ctx, c, h, deb); err != nil {
			return plan, err
		}
	}
	if err := os.WriteFile(plan.disk, nil, 0o600); err != nil {
		return plan, err
	}
	if err := os.Truncate(plan.disk, opt.disk); err != nil {
		return plan, err
	}
	plan.share = run.file("share")
	if opt.share != "" {
		abs, err := filepath.Abs(opt.share)
		if err != nil {
			return plan, err
		}
		info, err := os.Stat(abs)
		if err != nil {
			return plan, fmt.Errorf("cannot share: %w", err)
		}
		if !info.IsDir() {
			return plan, fmt.Errorf("cannot share %s: not a folder", abs)
		}
		plan.share = abs
	}
	return plan, nil
}

// keepConsole keeps the console of a run that failed for the user to read.
func keepConsole(c cache, run *runDir) {
	kept := c.file("last-failed-console.log")
	if err := os.Rename(run.file("console.log"), kept); err == nil {
		say("the guest's whole console is in %s", kept)
	}
}

// session is one command's life: one boot, or several if it asks for reboots.
type session struct {
	opt     options
	backend backend
	plan    bootPlan
	console *console
}

// run boots the guest until a command ends without asking for a reboot.
func (s *session) run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.timeout, fmt.Errorf("the guest did not finish in %s", s.opt.timeout))
	defer cancel()
	j := job{Command: s.opt.command, Env: []string{
		"PATH=" + guestPath, "HOME=/root", "LC_ALL=C.UTF-8", "USER=root", "LOGNAME=root", "SHELL=/bin/bash",
		"LLS_LAB_DISK=" + s.backend.disk(), "LLS_LAB_BACKEND=" + string(s.opt.backend), "LLS_LAB_GUEST=" + string(s.opt.guest),
	}}
	in, restore, err := s.openInput(&j)
	if err != nil {
		return 0, err
	}
	defer restore()
	for {
		out, err := s.bootOnce(ctx, j, in)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			restore()
			fmt.Fprintf(os.Stderr, "--- the end of the guest's console\n%s\n---\n", s.console.last(consoleShown))
			return 0, err
		}
		if out.reboot == nil {
			return out.status, nil
		}
		j.Command = out.reboot.Command
	}
}

// outcome is how a boot ended.
type outcome struct {
	status int
	reboot *rebootOrder
}

// bootOnce boots the guest, runs the job in it and ends the guest.
func (s *session) bootOnce(ctx context.Context, j job, in *input) (outcome, error) {
	m, err := boot(ctx, s.backend, s.plan, s.console)
	if err != nil {
		return outcome{}, err
	}
	defer m.close()
	// The guest's end of the line is closed when its process ends.
	out, err := s.converse(m, j, in)
	if err != nil || out.reboot == nil {
		return out, err
	}
	patience := shutdownPatience
	if out.reboot.Hard {
		patience = s.backend.powerCut()
		if patience == 0 {
			return out, nil
		}
	}
	select {
	case <-m.done:
		return out, nil
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	case <-time.After(patience):
		return outcome{}, fmt.Errorf("the guest did not go down in %s", patience)
	}
}

// converse speaks with the guest until it reports the end of the job.
func (s *session) converse(m *machine, j job, in *input) (outcome, error) {
	to := &frameWriter{w: m.line}
	for greeted := false; ; {
		kind, payload, err := readFrame(m.line)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it went down")
			}
			return outcome{}, fmt.Errorf("the guest ended without a status: %w", err)
		}
		switch kind {
		case frameHello:
			if greeted {
				return outcome{}, errors.New("the guest rebooted by itself: a command that wants that uses lab-reboot")
			}
			greeted = true
			if err := to.sendJSON(frameJob, j); err != nil {
				return outcome{}, err
			}
			in.attach(to)
		case frameStdout:
			if _, err := os.Stdout.Write(payload); err != nil {
				return outcome{}, fmt.Errorf("cannot write the command's output: %w", err)
			}
		case frameStderr:
			if _, err := os.Stderr.Write(payload); err != nil {
				return outcome{}, fmt.Errorf("cannot write the command's errors: %w", err)
			}
		case frameExit:
			var report exitReport
			if err := json.Unmarshal(payload, &report); err != nil {
				return outcome{}, fmt.Errorf("cannot read the command's status: %w", err)
			}
			return outcome{status: report.Status}, nil
		case frameReboot:
			var order rebootOrder
			if err := json.Unmarshal(payload, &order); err != nil {
				return outcome{}, fmt.Errorf("cannot read the order to reboot: %w", err)
			}
			return outcome{reboot: &order}, nil
		case frameFailed:
			return outcome{}, fmt.Errorf("the guest's side failed: %s", payload)
		default:
			return outcome{}, fmt.Errorf("the guest sent an unknown frame %q", kind)
		}
	}
}
