package agent

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lls/agent/api"
	"lls/policy"
)

type peerKey struct{}

// peer is who connected, in ids of the host; err says why that is not known.
type peer struct {
	unix.Ucred
	groups []uint32 // besides Gid
	err    error
}

func peerOf(c *net.UnixConn) peer {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var p peer
	if err := raw.Control(func(fd uintptr) {
		cred, credErr := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if p.err = credErr; credErr == nil {
			p.Ucred = *cred
			p.groups, p.err = peerGroups(int(fd), 64)
		}
	}); err != nil {
		p.err = err
	}
	return p
}

// peerGroups are the supplementary groups of who connected, in ids of the host (SO_PEERGROUPS of unix(7)). room is for how many there is
// room at first.
func peerGroups(fd, room int) ([]uint32, error) {
	for {
		groups := make([]uint32, max(room, 1))
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch n := int(size / 4); {
		case errno == 0:
			return groups[:n], nil
		case errno != unix.ERANGE || n <= len(groups):
			return nil, os.NewSyscallError("getsockopt", errno)
		default:
			room = n // as many as there are
		}
	}
}

// admit says whether the peer may use this socket: root, or for a guest's a member of a group that lls.toml names.
func (s *socketServer) admit(p peer, cfg *policy.Config) *api.Error {
	if p.err != nil {
		return api.Errorf(api.Failed, "cannot tell who is asking").Because(p.err)
	}
	if s.guest == nil {
		if p.Uid == 0 {
			return nil
		}
		return api.Errorf(api.Denied, "cannot use the sysadmin's socket: only root may").WithHint("become root: sudo lls-agent status")
	}
	if p.Uid == s.guest.box.RootUID {
		return nil
	}
	for _, g := range cfg.ClientGroups {
		if hostID, ok := hostGID(s.guest.box.PID, g); ok && (p.Gid == hostID || slices.Contains(p.groups, hostID)) {
			return nil
		}
	}
	return api.Errorf(api.Denied, "cannot use LLS: only root of this container may").
		WithHint("become root, or ask the host's sysadmin to add your group to lxc.client_groups in lls.toml")
}

// hostGID is the host's id for a group id of the container whose init is pid, by user_namespaces(7).
func hostGID(pid int, gid uint32) (uint32, bool) {
	data, err := readSmall(fmt.Sprintf("/proc/%d/gid_map", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(data) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return 0, false
		}
		var n [3]uint64
		for i := range n {
			if n[i], err = strconv.ParseUint(f[i], 10, 32); err != nil {
				return 0, false
			}
		}
		if in := uint64(gid); in >= n[0] && in-n[0] < n[2] {
			return uint32(n[1] + in - n[0]), true
		}
	}
	return 0, false
}
