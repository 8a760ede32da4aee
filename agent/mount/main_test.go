package mount

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lls/test/kit"
)

// The test program plays other parts under other names, so that it can be
// copied into a container or be killed in the middle of a mount.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "container-init":
		check(containerInit(os.Args[1]))
	case "silent-fuse":
		check(silentFUSE(os.Args[1], os.Args[2], os.Args[3]))
	case "short-agent":
		check(shortAgent(os.Args[1:]))
	case "start-host":
		check(startHost(os.Args[1:]))
	default:
		os.Exit(kit.InOwnMounts(m))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// as copies this program to where any user can start it, under the name of
// another part.
func as(t *testing.T, part string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "lls-part") // /tmp may be nodev
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, part)
	must(t, "cp", exe, path)
	must(t, "chmod", "755", dir, path)
	return path
}

// shortAgent mounts and exits, or is killed with the mount half way.
func shortAgent(args []string) error {
	base, pid, r, crash := args[0], atoi(args[1]), Request{
		Device: args[2], Major: uint32(atoi(args[3])), Minor: uint32(atoi(args[4])), Type: "ext4", Target: args[5],
	}, args[6] == "crash"
	tree, err := OpenTree(base, "box")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if crash {
		fd, err := r.open(ctx)
		if err != nil {
			return err
		}
		if _, err := tree.stage(fd); err != nil {
			return err
		}
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	box, err := OpenBox(pid, nil)
	if err != nil {
		return err
	}
	_, err = newMounter(args[7]).Mount(ctx, tree, box, r)
	return err
}

// startHost is LXC's hook: it mounts before the container's init is executed,
// reads the container's fstab into its tree, and gives it a node.
func startHost(args []string) error {
	pid := os.Getenv("LXC_PID")
	err := shortAgent([]string{args[0], pid, args[1], args[2], args[3], "/data", "mount", args[4]})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tree, err := OpenTree(args[0], "box")
	if err != nil {
		return err
	}
	nodes, err := OpenNodes(args[0], "box")
	if err != nil {
		return err
	}
	box, err := OpenBox(atoi(pid), nil)
	if err != nil {
		return err
	}
	m := newMounter(args[4])
	fstab, err := m.ReadFile(ctx, box, "/etc/fstab", 1<<16)
	if err != nil {
		return err
	}
	if err := tree.Put("fstab", fstab, 0o644); err != nil {
		return err
	}
	node := Node{Path: "early", Major: uint32(atoi(args[2])), Minor: uint32(atoi(args[3])), Mode: 0o440, GID: box.RootGID}
	if _, err := nodes.Set([]Node{node}); err != nil {
		return err
	}
	return m.InjectNodes(ctx, nodes, box)
}
