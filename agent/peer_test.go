package agent

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lls/agent/api"
	"lls/policy"
)

func TestMembersOfTheNamedGroupsAreHeardByAllTheirGroups(t *testing.T) {
	b := newBench(t)
	b.guest1.box.RootUID = 100000
	b.reload(testConfig + "\n[lxc]\nclient_groups = [4242, 4243]\n")
	s := &socketServer{agent: b.agent, guest: b.guest1}
	who := func(uid, gid uint32, groups ...uint32) peer {
		return peer{Ucred: unix.Ucred{Pid: 7, Uid: uid, Gid: gid}, groups: groups}
	}
	for name, tt := range map[string]struct {
		peer peer
		want api.Code
	}{
		"the container's root":               {who(100000, 100000), ""},
		"the host's root, who is not":        {who(0, 0, 0), api.Denied},
		"by the first group":                 {who(5, 4242), ""},
		"by the last one":                    {who(5, 4243), ""},
		"by one of the other groups":         {who(5, 5, 6, 4243, 7), ""},
		"no member":                          {who(5, 5, 4241, 4244), api.Denied},
		"a user whose number is the group's": {who(4242, 5, 5), api.Denied},
		"nobody knows":                       {peer{err: io.EOF}, api.Failed},
	} {
		e := s.admit(tt.peer, b.agent.config())
		if got := codeOf(e); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if e := s.admit(who(5, 4242), &policy.Config{}); codeOf(e) != api.Denied {
		t.Errorf("no group is named: %v", e)
	}
}

func codeOf(e *api.Error) api.Code {
	if e == nil {
		return ""
	}
	return e.Code
}

func TestPeerGroupsAreThoseOfWhoMadeTheSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []int{0, 1, 64} {
		got, err := peerGroups(fds[0], room)
		if err != nil || len(got) != len(own) || slices.ContainsFunc(own, func(g int) bool { return !slices.Contains(got, uint32(g)) }) {
			t.Errorf("with room for %d: %v, %v; want %v", room, got, err, own)
		}
	}
	if got, err := peerGroups(int(os.Stdin.Fd()), 1); err == nil {
		t.Errorf("of no socket: %v", got)
	}
}

const peerSocket = "LLS_TEST_PEER_SOCKET"

// TestPeerChild is the other end of the next test.
func TestPeerChild(t *testing.T) {
	path := os.Getenv(peerSocket)
	if path == "" {
		return
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c) // until the other end has seen enough
}

func TestAPeerOfManyGroupsIsKnownByAllOfThem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a process other groups")
	}
	path := t.TempDir() + "/s"
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	limited := &limitListener{UnixListener: ln, admits: func(peer) bool { return true }, slots: make(chan struct{}, 1), done: make(chan struct{})}
	defer func() { _ = limited.Close() }()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPeerChild$")
	cmd.Env = append(os.Environ(), peerSocket+"="+path)
	cred := &syscall.Credential{Uid: 0, Gid: 77}
	for g := range 300 { // more than there is room for at first
		cred.Groups = append(cred.Groups, uint32(1000+g))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := limited.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := c.(*limitConn).peer
	if p.err != nil || p.Gid != 77 || int(p.Pid) != cmd.Process.Pid || fmt.Sprint(p.groups) != fmt.Sprint(cred.Groups) {
		t.Errorf("gid %d, pid %d, groups %v, %v", p.Gid, p.Pid, p.groups, p.err)
	}
	_ = c.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
