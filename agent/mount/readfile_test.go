package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestReadFile(t *testing.T) {
	m := newMounter(findHelper(t))
	const limit = 1 << 17
	for _, privileged := range []bool{false, true} {
		t.Run(fmt.Sprintf("privileged=%v", privileged), func(t *testing.T) {
			g := newGuest(t, fmt.Sprint(privileged), privileged, oneMap)
			g.do("sh", "-c", `mkdir -p /srv/d && cd /srv && printf hello >file && chmod 600 file && : >empty && ln -s file link && ln -s /srv/file abs &&
				ln -s ../../../../srv/link up && ln -s /etc/hostname-of-nobody dangling && ln -s loop2 loop1 && ln -s loop1 loop2 && mkfifo fifo &&
				ln -s /dev/zero zero && ln -s /dev/null null && ln -s /proc/kmsg kmsg && ln -s /proc/1/environ environ && ln -s /proc/1/root/srv/file magic &&
				ln -s /sys/kernel/uevent_seqnum sys && head -c 131072 /dev/zero >full && head -c 131073 /dev/zero >large && truncate -s 1000000000000 huge`)
			host := "/proc/" + strconv.Itoa(g.pid) + "/root/srv/"
			check(os.WriteFile(host+"hosts", []byte("x"), 0o600)) // of the host's root
			for path, want := range map[string]string{
				"/srv/file": "hello", "/srv/link": "hello", "/srv/abs": "hello", "/srv/up": "hello", "/../srv/../../srv/file": "hello",
				"/srv/empty": "", "/srv/full": strings.Repeat("\x00", limit),
			} {
				got, err := m.ReadFile(deadline(t, 20*time.Second), g.box, path, limit)
				if err != nil || string(got) != want {
					t.Errorf("%s: %d bytes, %v", path, len(got), err)
				}
			}
			for path, want := range map[string]error{
				"/srv/none": os.ErrNotExist, "/srv/file/x": os.ErrNotExist, "/srv/dangling": os.ErrNotExist,
				"/srv/large": ErrTooLarge, "/srv/huge": ErrTooLarge,
				"/srv/d": ErrNotRegular, "/": ErrNotRegular, "/srv/fifo": ErrNotRegular, "/srv/zero": ErrNotRegular, "/srv/null": ErrNotRegular,
				"/srv/kmsg": ErrNotRegular, "/srv/environ": ErrNotRegular, "/srv/loop1": ErrNotRegular,
				"/proc/uptime": ErrNotRegular,
			} {
				got, err := m.ReadFile(deadline(t, 20*time.Second), g.box, path, limit)
				if !errors.Is(err, want) || got != nil {
					t.Errorf("%s: %d bytes, %v", path, len(got), err)
				}
			}
			// Who may look at the process behind a magic link is told that it is one.
			if got, err := m.ReadFile(deadline(t, 20*time.Second), g.box, "/srv/magic", limit); !errors.Is(err, ErrNotRegular) && !errors.Is(err, os.ErrPermission) {
				t.Errorf("through a magic link: %q %v", got, err)
			}
			_, err := m.ReadFile(deadline(t, 20*time.Second), g.box, "/srv/hosts", limit)
			if privileged && err != nil || !privileged && !errors.Is(err, os.ErrPermission) {
				t.Errorf("a file of the host's root: %v", err)
			}
			for _, path := range []string{"", "srv/file", "/srv/\x00", "/" + strings.Repeat("x", 5000)} {
				if _, err := m.ReadFile(deadline(t, 20*time.Second), g.box, path, limit); err == nil {
					t.Errorf("path %.20q is taken", path)
				}
			}
			if got, err := m.ReadFile(deadline(t, 20*time.Second), g.box, "/srv/file", 4); !errors.Is(err, ErrTooLarge) {
				t.Errorf("one more than the limit: %q %v", got, err)
			}
			if got, err := m.ReadFile(deadline(t, 20*time.Second), g.box, "/srv/empty", 0); err != nil || len(got) != 0 {
				t.Errorf("nothing: %q %v", got, err)
			}
		})
	}
}

func TestReadFileOfASilentFUSEIsGivenUp(t *testing.T) {
	for _, privileged := range []bool{false, true} {
		t.Run(fmt.Sprintf("privileged=%v", privileged), func(t *testing.T) {
			m := hastyMounter(findHelper(t))
			g := newGuest(t, fmt.Sprint(privileged), privileged, oneMap)
			g.do("sh", "-c", "mkdir -p /fuse && ln -s /fuse/fstab /link && echo hello >/file")
			serveSilence(t, g, "/fuse")
			want := os.ErrPermission // the kernel keeps us from a FUSE of another user namespace
			if privileged {
				want = ErrStuck
			}
			for _, path := range []string{"/fuse/fstab", "/link"} {
				start := time.Now()
				if _, err := m.ReadFile(deadline(t, time.Minute), g.box, path, 1<<16); !errors.Is(err, want) {
					t.Errorf("%s: %v", path, err)
				}
				if took := time.Since(start); took > 3*helperDeadline {
					t.Errorf("%s: took %v", path, took)
				}
			}
			if got, err := m.ReadFile(deadline(t, time.Minute), g.box, "/file", 1<<16); err != nil || string(got) != "hello\n" {
				t.Errorf("another file: %q %v", got, err)
			}
		})
	}
}
