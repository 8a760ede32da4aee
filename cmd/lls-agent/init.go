package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lls/agent/api"
	"lls/agent/api/cli"
	"lls/agent/catalog"
	"lls/agent/setup"
	"lls/internal/run"
	"lls/lvm"
	"lls/policy"
)

// initDeadline bounds all of init.
const initDeadline = 10 * time.Minute

// runInit makes a pool, and gives the exit status.
func runInit(ctx context.Context, call *cli.Call) int {
	ctx, cancel := context.WithTimeout(ctx, initDeadline)
	defer cancel()
	if os.Geteuid() != 0 {
		return call.Report(api.Errorf(api.Denied, "cannot make a pool: only root may").WithHint("become root: sudo lls-agent init"))
	}
	req, err := initRequest(call)
	if err != nil {
		return call.Report(err)
	}
	if req.Group == "" && req.Device == "" && req.Loop == 0 { // what is asked about is what is made
		if req.Loop, err = setup.LoopSize(stateDir); err != nil {
			return call.Report(initError(err, req))
		}
	}
	if !call.Has("yes") {
		// Where nobody can be asked, silence is a yes: what holds data is never touched.
		answer, err := call.Confirm(ctx, "LLS will use "+uses(req)+". Go on?")
		if err != nil {
			return call.Report(err)
		}
		if answer == cli.No {
			return call.Report(api.Errorf(api.Failed, "cannot make a pool: you did not say yes").WithHint("nothing was changed"))
		}
	}
	runner := run.New()
	s := &setup.Setup{
		LVM: lvm.NewHost(runner, lvm.Options{BackupDir: backupDir, Managed: catalog.Managed}), Run: runner, Config: configFile, State: stateDir,
		Say: func(format string, args ...any) { _, _ = fmt.Fprintf(call.Stderr, format+"\n", args...) },
	}
	pool, err := s.Init(ctx, req)
	if err != nil {
		return call.Report(initError(err, req))
	}
	if err := call.Post(ctx, api.PathReload, api.Empty{}, nil); err != nil {
		if e := api.AsError(err); e.Code != api.Unreachable {
			return call.Report(err)
		}
		_, _ = fmt.Fprintln(call.Stderr, "the agent does not run yet; to start it: systemctl start lls-agent")
	}
	if err := call.Show(pool, fmt.Sprintf("pool %s is ready; to make a dataset: lls-agent create NAME --size 100G", pool.Name)); err != nil {
		return call.Report(err)
	}
	return 0
}

// initRequest reads the flags: a device, a group, a file, or nothing, which is a file.
func initRequest(call *cli.Call) (setup.Request, error) {
	var r setup.Request
	malformed := func(err error, hint string) error {
		return api.Errorf(api.Malformed, "cannot make a pool: %v", err).WithHint("%s", hint)
	}
	r.Device = call.Flag("device")
	if call.Has("device") && call.Has("loop") {
		return r, malformed(errors.New("--device and --loop are two places"), "give one of them")
	}
	if call.Has("vg") {
		vg, err := lvm.ParseVG(call.Flag("vg"))
		if err != nil {
			return r, malformed(err, "see the groups: vgs")
		}
		r.Group = vg
	}
	if call.Has("pool") {
		if !call.Has("vg") || call.Has("device") || call.Has("loop") {
			return r, malformed(errors.New("--pool names an existing thin pool of the group that --vg names"), "lls-agent init --vg VG --pool POOL")
		}
		name, err := lvm.ParseName(call.Flag("pool"))
		if err != nil {
			return r, malformed(err, "see the pools: lvs")
		}
		r.Pool = name
	}
	if call.Has("loop") {
		size, err := lvm.ParseSize(call.Flag("loop"))
		if err != nil {
			return r, malformed(err, "write it like 50G")
		}
		r.Loop = size
	}
	return r, nil
}

// uses says what init will take.
func uses(r setup.Request) string {
	switch {
	case r.Device != "":
		return "all of " + r.Device + newGroup(r)
	case r.Pool != "":
		return fmt.Sprintf("the thin pool %s/%s", r.Group, r.Pool)
	case r.Group != "" && r.Loop == 0:
		return fmt.Sprintf("the free space of the volume group %s", r.Group)
	}
	return fmt.Sprintf("a file below %s that may grow to %s%s", stateDir, r.Loop, newGroup(r))
}

// newGroup says what the volume group will be called that init makes.
func newGroup(r setup.Request) string {
	return ", as the new volume group " + cmp.Or(string(r.Group), setup.DefaultGroup)
}

func initError(err error, r setup.Request) *api.Error {
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		return mistakes("cannot add the pool to "+configFile, problems)
	}
	switch {
	case errors.Is(err, setup.ErrConfigured):
		return api.Errorf(api.Exists, "%v", err).WithHint("see it: lls-agent status")
	case errors.Is(err, lvm.ErrHoldsData):
		return api.Errorf(api.Denied, "%v", err).WithHint("LLS never overwrites data; give an empty disk, or, if nothing on %s is needed, empty it yourself first", r.Device)
	case errors.Is(err, lvm.ErrExists):
		return api.Errorf(api.Exists, "%v", err).WithHint("take in what is there with --vg VG [--pool POOL], or give another name with --vg")
	case errors.Is(err, lvm.ErrOpen):
		return api.Errorf(api.Busy, "%v", err).WithHint("see what uses it: lsblk %s", r.Device)
	case errors.Is(err, lvm.ErrNoGroup) || errors.Is(err, lvm.ErrNoPool):
		return api.Errorf(api.NotFound, "%v", err).WithHint("see what there is: vgs; lvs")
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.NotFound, "%v", err).WithHint("see the disks: lsblk")
	}
	return api.Errorf(api.Failed, "%v", err).WithHint("look at what LVM says: vgs; lvs -a")
}
