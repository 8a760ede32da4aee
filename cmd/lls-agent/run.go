package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent"
	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/container"
	"lls/agent/event/bus"
	"lls/agent/fdstore"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/agent/notify"
	"lls/agent/setup"
	"lls/agent/thin"
	"lls/internal/run"
	"lls/lvm"
)

// Where things are on a host, by the Filesystem Hierarchy Standard.
const (
	configFile = "/etc/lls/lls.toml"
	stateDir   = "/var/lib/lls"
	backupDir  = stateDir + "/backup"
	runDir     = "/run/lls"
	treesDir   = runDir + "/c"
	rawDir     = runDir + "/raw" // a note of each right to open a device
	clientFile = "/usr/lib/lls/lls"
)

// poolWait is how long containers that start at the boot of the host wait for LVM to activate the pools: a check of a large pool's metadata
// takes seconds. It is well below the TimeoutStartSec of lls-agent.service.
const poolWait = 20 * time.Second

// runDaemon is the daemon. It gives the exit status.
func runDaemon(ctx context.Context, config string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	if err := daemon(ctx, config, log); err != nil {
		log.Error("cannot run", "error", err)
		return api.Failed.Exit()
	}
	return 0
}

// withoutTime leaves the time to the journal.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func daemon(ctx context.Context, config string, log *slog.Logger) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can be the daemon; to start it: systemctl start lls-agent")
	}
	unix.Umask(0o022)
	// Nobody but root gets to the containers' trees from the host's side.
	if err := errors.Join(os.MkdirAll(runDir, 0o755), os.MkdirAll(treesDir, 0o700), os.MkdirAll(stateDir, 0o700)); err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(runDir, "agent.lock"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	systemd, err := fdstore.New(rawDir)
	if err != nil {
		return err
	}
	runner := run.New()
	mounted := &filesystem.Mounted{Run: runner, Helper: mount.DefaultHelper}
	watcher := bus.NewWatcher(bus.Options{Version: version, Log: log})
	mail, err := notify.Open(notify.Options{Dir: stateDir + "/mail", Log: log, Run: runner}, notify.Config{}) // lls.toml is read later
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{
		Config: config, Kept: stateDir + "/lls.toml.kept", Client: clientFile, Trees: treesDir, Socket: api.AdminSocket, Version: version, History: stateDir + "/history.json",
		SelfPID: os.Getpid(), PoolWait: poolWait, Log: log, Now: time.Now,
	}, agent.Parts{
		LVM:        lvm.NewHost(runner, lvm.Options{BackupDir: backupDir, Managed: catalog.Managed}),
		Mounts:     mount.New(runner, mount.Options{}),
		Devices:    agent.HostDevices{Run: runner, Mounted: mounted},
		Containers: container.NewHost(),
		Loops:      setup.Loops{Run: runner},
		Bus:        bus.NewPublisher(bus.Options{Version: version, Log: log}),
		Mailer:     mail,
		Keeper:     systemd,
		Meter:      thin.NewReader(runner, stateDir+"/thin"),
		Trimmer:    mounted,
		Sources:    sources(watcher),
		Release:    watcher.Release,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx, func() {
		if err := systemd.Notify("READY=1"); err != nil {
			log.Warn("cannot tell systemd that we are ready", "error", err)
		}
		log.Info("ready", "version", version)
	}, reload)
}

// lockFile keeps a second agent out for as long as the file is open.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another agent runs: %w", err)
	}
	return f, nil
}
