package hostile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const socket = "/lls/lls.sock"

// play is what runs inside a container.
func play(part string, args []string) error {
	switch part {
	case "ask": // METHOD PATH BODY
		return ask(args[0], args[1], args[2])
	case "as-user": // part ARGS: as uid 1000
		return again(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}, args)
	case "as-nested": // part ARGS: as the root that uid 1000 makes itself in a user namespace
		one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
		return again(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one}, args)
	case "hold": // N SECONDS
		return hold(atoi(args[0]), atoi(args[1]))
	case "press": // N SECONDS: whatever is closed is opened again
		return press(atoi(args[0]), atoi(args[1]))
	case "watch": // N SECONDS
		return watch(atoi(args[0]), atoi(args[1]))
	case "drip": // N SECONDS
		return drip(atoi(args[0]), atoi(args[1]))
	case "body": // BYTES
		return body(atoi(args[0]))
	case "stall": // N SECONDS: requests whose body never comes
		return stall(atoi(args[0]), atoi(args[1]))
	case "unread": // N SECONDS
		return unread(atoi(args[0]), atoi(args[1]))
	case "swap": // DIR LINK SECONDS
		return swap(args[0], args[1], atoi(args[2]))
	case "silence": // DEVICE PID DIR
		return silence(args[0], args[1], args[2])
	case "withhold": // PATH...
		return withhold(args)
	case "clients": // N
		return clients(atoi(args[0]))
	case "claim": // DEVICE MILLISECONDS
		return claim(args[0], atoi(args[1]))
	case "many": // N COMMAND...: N times lls COMMAND at once, every {} being the number
		return many(atoi(args[0]), args[1:])
	}
	return errors.New("no such part")
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// again runs this program once more in another guise.
func again(attr *syscall.SysProcAttr, args []string) error {
	cmd := exec.Command("/proc/self/exe", append([]string{"part:" + args[0]}, args[1:]...)...)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = attr, os.Stdout, os.Stderr
	return cmd.Run()
}

func dial() (net.Conn, error) { return net.DialTimeout("unix", socket, 10*time.Second) }

// ask sends one request and prints the whole answer.
func ask(method, path, body string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	_, err = io.Copy(os.Stdout, c) // a request that is refused unread was answered all the same
	return err
}

// connections opens as many as it can get and gives each to start.
func connections(n int, start func(net.Conn)) int {
	got := 0
	for range n {
		c, err := net.DialTimeout("unix", socket, 10*time.Second)
		if err != nil {
			break // the queue is full
		}
		got++
		go start(c)
	}
	return got
}

func hold(n, seconds int) error {
	fmt.Println("holding", connections(n, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
}

func press(n, seconds int) error {
	for range n {
		go func() {
			for ; ; time.Sleep(time.Second) {
				if c, err := dial(); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}
		}()
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
}

// watch begins to watch so many times, and prints how often each was answered.
func watch(n, seconds int) error {
	end := time.After(time.Duration(seconds) * time.Second)
	answers := make(chan string, n)
	connections(n, func(c net.Conn) {
		_, _ = io.WriteString(c, "GET /1.0/watch HTTP/1.1\r\nHost: x\r\n\r\n")
		status := make([]byte, len("HTTP/1.1 200"))
		_, _ = io.ReadFull(c, status)
		answers <- string(status[9:])
		_, _ = io.Copy(io.Discard, c)
	})
	counts := map[string]int{}
	for {
		select {
		case a := <-answers:
			counts[a]++
		case <-end:
			return json.NewEncoder(os.Stdout).Encode(counts)
		}
	}
}

func drip(n, seconds int) error {
	fmt.Println("dripping", connections(n, func(c net.Conn) {
		for _, b := range []byte("POST /1.0/create HTTP/1.1\r\nHost: x\r\nX-" + strings.Repeat("a", 4000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}))
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
}

// body sends a body of that many bytes and tells how many went before the agent had enough.
func body(n int) error {
	c, err := dial()
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = fmt.Fprintf(c, "POST /1.0/create HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n)
	block, sent := []byte(strings.Repeat(" ", 64<<10)), 0
	for sent < n {
		w, err := c.Write(block)
		sent += w
		if err != nil {
			break
		}
	}
	fmt.Println(sent)
	return nil
}

// stall promises a body that never comes, and tells how many connections the agent closed.
func stall(n, seconds int) error {
	closed := make(chan struct{}, n)
	got := connections(n, func(c net.Conn) {
		_, _ = fmt.Fprintf(c, "POST /1.0/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
		_, _ = io.Copy(io.Discard, c)
		closed <- struct{}{}
	})
	end := time.After(time.Duration(seconds) * time.Second)
	count := 0
	for count < got {
		select {
		case <-closed:
			count++
		case <-end:
			fmt.Println(got, count)
			return nil
		}
	}
	fmt.Println(got, count)
	return nil
}

func unread(n, seconds int) error {
	fmt.Println("asking", connections(n, func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, "GET /1.0/volumes HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return
			}
		}
	}))
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
}

// swap exchanges a directory and a link as fast as it can.
func swap(dir, link string, seconds int) error {
	fmt.Println("swapping")
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil && err != unix.EBUSY {
			return err
		}
	}
	return nil
}

// silence serves a FUSE file system that answers the kernel's greeting and nothing else. It runs in the user namespace of the
// container and enters its mount namespace itself, with a device that a container may not have. Numbers are from linux/fuse.h.
func silence(device, pid, dir string) error {
	fd, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", device, err)
	}
	ns, err := unix.Open("/proc/"+pid+"/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open the mount namespace: %w", err)
	}
	runtime.LockOSThread()
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(ns, unix.CLONE_NEWNS)); err != nil {
		return fmt.Errorf("enter the mount namespace: %w", err)
	}
	if err := unix.Mount("silence", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, "fd="+strconv.Itoa(fd)+",rootmode=40000,user_id=0,group_id=0,allow_other"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, request)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n < 40 {
			return err
		}
		if binary.LittleEndian.Uint32(request[4:]) != 26 { // FUSE_INIT
			continue
		}
		out := make([]byte, 16+64) // fuse_out_header, fuse_init_out
		binary.LittleEndian.PutUint32(out, uint32(len(out)))
		copy(out[8:16], request[8:16])
		binary.LittleEndian.PutUint32(out[16:], 7)  // major
		binary.LittleEndian.PutUint32(out[20:], 31) // minor
		binary.LittleEndian.PutUint32(out[24:], 4096)
		binary.LittleEndian.PutUint16(out[32:], 12)
		binary.LittleEndian.PutUint16(out[34:], 9)
		binary.LittleEndian.PutUint32(out[36:], 1<<16)
		binary.LittleEndian.PutUint32(out[40:], 1)
		if _, err := unix.Write(fd, out); err != nil {
			return err
		}
		fmt.Println("silent")
	}
}

// lls runs the client and tells whether it was done.
func lls(args ...string) bool { return exec.Command("/lls/bin/lls", args...).Run() == nil }

// clients are so many developers at once. It prints what each volume must be by the answers they got: live, mounted or trash.
func clients(n int) error {
	var (
		mu    sync.Mutex
		state = map[string]string{}
		all   sync.WaitGroup
	)
	set := func(name, s string) {
		mu.Lock()
		defer mu.Unlock()
		if state[name] = s; s == "" {
			delete(state, name)
		}
	}
	for i := range n {
		all.Go(func() {
			name, dir := fmt.Sprintf("v%d", i), fmt.Sprintf("/srv/%d", i)
			_ = os.MkdirAll(dir, 0o755)
			time.Sleep(rand.N(300 * time.Millisecond))
			switch {
			case i%4 == 3:
				if !lls("create", name, "--size", "64M") {
					return
				}
				set(name, "live")
				if lls("mount", name, dir) {
					set(name, "mounted")
				}
			case !lls("snapshot", "base", name, "--mount", dir):
				return
			default:
				set(name, "mounted")
			}
			if i%3 == 0 {
				return
			}
			if !lls("umount", name) {
				return
			}
			set(name, "live")
			switch {
			case i%3 == 1 && lls("delete", name):
				set(name, "trash")
				if i%2 == 0 && lls("undelete", name) {
					set(name, "live")
				}
			case i%3 == 2 && lls("delete", name):
				set(name, "trash")
				if lls("purge", name, "--yes") {
					set(name, "")
				}
			}
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(state)
}

// many runs the client so many times at once and prints how many ended with each status.
func many(n int, args []string) error {
	var (
		mu     sync.Mutex
		counts = map[int]int{}
		all    sync.WaitGroup
	)
	for i := range n {
		all.Go(func() {
			line := strings.Split(strings.ReplaceAll(strings.Join(args, "\x00"), "{}", strconv.Itoa(i)), "\x00")
			cmd := exec.Command("/lls/bin/lls", line...)
			_ = cmd.Run() // the status tells
			mu.Lock()
			defer mu.Unlock()
			counts[cmd.ProcessState.ExitCode()]++
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(counts)
}
