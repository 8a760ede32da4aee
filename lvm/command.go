package lvm

import (
	"context"
	"strconv"
	"time"

	"lls/internal/run"
)

// How long LVM may go on after it was told to end, before its caller gives up.
// A change under way blocks the signal until it is complete.
const (
	reportGrace = 2 * time.Second
	changeGrace = 20 * time.Second
)

// reportTime is how long one report may take. It waits for a change of the
// group that is under way, and reads thousands of volumes in a second.
const reportTime = time.Minute

// A report of thousands of volumes is some megabytes.
const reportLimit = 64 << 20

// noCopies keeps a command from copying the group's metadata below /etc/lvm. A
// report does that as well when it finds the copy there out of date, and may
// then read for ever, with all signals blocked, what another report replaces
// at that moment (check_current_backup and config_file_read_fd of lvm2).
const noCopies = "backup{backup=0 archive=0}"

// read runs one LVM command that only reads.
func (h *Host) read(ctx context.Context, command string, args ...string) (run.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	return h.lvm(ctx, reportGrace, command, noCopies+" report{time_format=\"%s\"}", args)
}

// change runs one LVM command that changes something.
func (h *Host) change(ctx context.Context, command string, args ...string) error {
	_, err := h.lvm(ctx, changeGrace, command, noCopies, args)
	return err
}

func (h *Host) lvm(ctx context.Context, grace time.Duration, command, config string, args []string) (run.Result, error) {
	if h.opts.ConfigExtra != "" {
		config += " " + h.opts.ConfigExtra
	}
	argv := []string{command, "--config", config}
	for _, d := range h.opts.Devices {
		argv = append(argv, "--devices", d)
	}
	return h.run.Run(ctx, run.Cmd{
		Name:   "lvm",
		Args:   append(argv, args...),
		Limit:  reportLimit,
		Grace:  grace,
		NoKill: true,
	})
}

// operand names a volume for LVM.
func operand(vg VG, name Name) string { return string(vg) + "/" + string(name) }

// bytesArg writes a size for LVM, which wants whole sectors and itself rounds up
// to whole extents.
func bytesArg(s Size) string { return strconv.FormatInt(int64(s.RoundUp(512)), 10) + "b" }
