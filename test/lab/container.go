package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	lxcPath      = "/var/lib/lxc"
	lxcDefaults  = "/etc/lxc/default.conf"
	firstID      = 100000 // as in subordinateIDs
	idRange      = 65536
	idRanges     = 64
	containerMax = 5 * time.Minute // to start, on the slowest of guests
)

// containerInit is a container's init. ash reaps orphans while it waits, and
// the kernel ends everything else when it leaves. LXC's halt signal is SIGPWR;
// busybox's own poweroff and reboot send SIGUSR2, SIGUSR1 and SIGTERM.
const containerInit = `#!/bin/sh
trap 'exec /bin/busybox poweroff -f' PWR INT USR1 USR2
trap 'exec /bin/busybox reboot -f' TERM
export PATH=/lls/bin:/bin:/sbin:/usr/bin
/bin/busybox hostname -F /etc/hostname
[ -x /etc/rc.local ] && /etc/rc.local
: > /run/ready
while :; do
	/bin/busybox sleep 86400 &
	wait $!
done
`

var containerNames = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// containerSpec is a container to make.
type containerSpec struct {
	name       string
	privileged bool
	base       int // first host id of its range; 0 for the next free one
	stopped    bool
}

func parseContainer(args []string) (containerSpec, error) {
	var spec containerSpec
	const usage = "lab-container NAME [--privileged] [--map BASE] [--no-start]"
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--privileged":
			spec.privileged = true
		case arg == "--no-start":
			spec.stopped = true
		case arg == "--map" && i+1 < len(args):
			i++
			base, err := strconv.Atoi(args[i])
			if err != nil || base < firstID || base > firstID+(idRanges-1)*idRange {
				return spec, fmt.Errorf("%w: --map %s: not in %d..%d", errUsage, args[i], firstID, firstID+(idRanges-1)*idRange)
			}
			spec.base = base
		case spec.name == "" && containerNames.MatchString(arg):
			spec.name = arg
		default:
			return spec, fmt.Errorf("%w: %s", errUsage, usage)
		}
	}
	if spec.name == "" || spec.privileged && spec.base != 0 {
		return spec, fmt.Errorf("%w: %s", errUsage, usage)
	}
	return spec, nil
}

// containerMain is lab-container: it makes and starts a container.
func containerMain(args []string) error {
	spec, err := parseContainer(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), containerMax)
	defer cancel()
	// Two at once must not take the same range of ids.
	lock, err := waitLock(ctx, "/run/lab/containers.lock", nil)
	if err != nil {
		return err
	}
	err = makeContainer(spec)
	lock.Close()
	if err != nil {
		return err
	}
	if spec.stopped {
		return nil
	}
	return startContainer(ctx, spec.name)
}

// startContainer starts a container and waits until its init is at work.
func startContainer(ctx context.Context, name string) error {
	log := filepath.Join(lxcPath, name, "start.log")
	if out, err := exec.CommandContext(ctx, "lxc-start", "-n", name, "-o", log, "-l", "INFO").CombinedOutput(); err != nil {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("cannot start container %s: %w\n%s%s", name, err, out, lastLines(string(text), 30))
	}
	if out, err := exec.CommandContext(ctx, "lxc-wait", "-n", name, "-s", "RUNNING", "-t", "240").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot wait for container %s: %w: %s", name, err, out)
	}
	for {
		if err := exec.CommandContext(ctx, "lxc-attach", "-n", name, "--", "/bin/busybox", "test", "-e", "/run/ready").Run(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot start container %s: its init did not come up", name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// makeContainer writes a container's configuration and root file system.
func makeContainer(spec containerSpec) error {
	dir := filepath.Join(lxcPath, spec.name)
	if !spec.privileged && spec.base == 0 {
		base, err := freeRange()
		if err != nil {
			return err
		}
		spec.base = base
	}
	defaults, err := os.ReadFile(lxcDefaults)
	if err != nil {
		return fmt.Errorf("cannot read LXC's defaults: %w", err)
	}
	// 0755: the container's root has to reach its root file system.
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make container %s: %w", spec.name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(containerConfig(spec, string(defaults))), 0o644); err != nil {
		return err
	}
	return fillRootfs(filepath.Join(dir, "rootfs"), spec)
}

// containerConfig is what lxc-create would write: the distribution's defaults
// and common.conf, but no network, of which the guest has none.
func containerConfig(spec containerSpec, defaults string) string {
	var b strings.Builder
	b.WriteString("lxc.include = /usr/share/lxc/config/common.conf\n")
	if !spec.privileged {
		b.WriteString("lxc.include = /usr/share/lxc/config/userns.conf\n")
		fmt.Fprintf(&b, "lxc.idmap = u 0 %d %d\nlxc.idmap = g 0 %d %d\n", spec.base, idRange, spec.base, idRange)
	}
	for _, line := range strings.Split(defaults, "\n") {
		if strings.HasPrefix(line, "lxc.") && !strings.HasPrefix(line, "lxc.net.") {
			b.WriteString(line + "\n")
		}
	}
	fmt.Fprintf(&b, "lxc.net.0.type = empty\nlxc.uts.name = %s\nlxc.rootfs.path = dir:%s/%s/rootfs\n", spec.name, lxcPath, spec.name)
	return b.String()
}

var idmapLine = regexp.MustCompile(`(?m)^lxc\.idmap = u 0 (\d+) `)

// freeRange is the first range of ids that no container uses.
func freeRange() (int, error) {
	configs, err := filepath.Glob(filepath.Join(lxcPath, "*", "config"))
	if err != nil {
		return 0, err
	}
	used := map[int]bool{}
	for _, name := range configs {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("cannot read a container's configuration: %w", err)
		}
		for _, m := range idmapLine.FindAllSubmatch(text, -1) {
			base, err := strconv.Atoi(string(m[1]))
			if err != nil {
				return 0, fmt.Errorf("cannot read a container's id map: %w", err)
			}
			used[(base-firstID)/idRange] = true
			// A range given with --map need not start where ours do.
			used[(base-firstID+idRange-1)/idRange] = true
		}
	}
	for n := range idRanges {
		if !used[n] {
			return firstID + n*idRange, nil
		}
	}
	return 0, fmt.Errorf("cannot find ids: all %d ranges are taken", idRanges)
}

// fillRootfs makes a small system of busybox.
func fillRootfs(root string, spec containerSpec) error {
	applets, err := exec.Command("/bin/busybox", "--list-full").Output()
	if err != nil {
		return fmt.Errorf("cannot list busybox's applets: %w", err)
	}
	for _, dir := range []string{
		"bin", "sbin", "usr/bin", "usr/sbin", "lib", "etc", "dev", "proc", "sys", "run", "tmp", "root", "home", "mnt", "srv", "data",
		"var/tmp", "var/log", "opt", "media",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	if err := copyFile("/bin/busybox", filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		return err
	}
	lines := bufio.NewScanner(strings.NewReader(string(applets)))
	for lines.Scan() {
		// Every applet in /bin, where scripts look; some are also expected in /sbin.
		name := filepath.Base(lines.Text())
		for _, link := range []string{"bin/" + name, lines.Text()} {
			if err := os.Symlink("/bin/busybox", filepath.Join(root, link)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(root, "sbin/init")); err != nil {
		return err
	}
	for name, file := range map[string]imageFile{
		"sbin/init":       {0o755, containerInit},
		"etc/hostname":    {0o644, spec.name + "\n"},
		"etc/hosts":       {0o644, "127.0.0.1 localhost " + spec.name + "\n"},
		"etc/passwd":      {0o644, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n"},
		"etc/group":       {0o644, "root:x:0:\nuser:x:1000:\n"},
		"etc/fstab":       {0o644, ""},
		"etc/os-release":  {0o644, "ID=lab\nNAME=\"LLS lab\"\n"},
		"etc/resolv.conf": {0o644, ""},
	} {
		if err := putFile(root, name, file); err != nil {
			return err
		}
	}
	if spec.privileged {
		return nil
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, spec.base, spec.base)
	})
}
