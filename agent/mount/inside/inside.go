// Package inside is what the helper lls-mount does in the mount namespace of a
// container, and the words it is told it in. It imports next to nothing, so
// that the helper starts fast.
//
// The container's root is hostile: it may change any path at any moment and let
// any lookup hang. So every object is opened once, checked, and used by its
// descriptor; nothing is created but /lls and /dev/mf, and those with the
// container's own ids; and whoever starts the helper has to live with it never ending.
package inside

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
)

// Descriptors that the helper is started with. The first is not used: its only
// purpose is to be closed when the helper has ended.
const (
	FDAlive   = 3
	FDPid     = 4 // a pidfd of the container's init
	FDTunnel  = 5 // inject: a clone of what the host owns, not attached anywhere
	FDSecond  = 6 // inject, if flags are to be locked: a second clone
	FDStaging = 7 // and a directory of the original on the host to attach it to
	FDContent = 5 // read: a file to write to
)

// Operations, the first argument.
const (
	OpInject  = "inject"  // UID GID STAGING PLACE: uid and gid of the container's root; STAGING is empty when flags are not to be locked; PLACE is TreeDir or NodesDir
	OpPlace   = "place"   // STAGING MAJOR MINOR TARGET
	OpReplay  = "replay"  // as place, for a mount that is made again at each start of the container
	OpUnmount = "unmount" // MAJOR MINOR ID PATH: ID is 0, or the mount's and then it is detached even if in use
	OpRead    = "read"    // UID GID LIMIT PATH: the content goes to FDContent
)

// Where things are.
const (
	TreeDir    = "lls"    // below the container's root
	NodesDir   = "dev/mf" // below the container's root
	StagingDir = ".mnt"   // below either; only the host's root may look into it
)

// Kind says how an operation ended.
type Kind string

// The kinds of answers.
const (
	OK         Kind = "ok"
	Already    Kind = "already"
	Missing    Kind = "missing"
	NotDir     Kind = "notdir"
	Forbidden  Kind = "forbidden"
	Loop       Kind = "loop"
	Invalid    Kind = "invalid"
	Occupied   Kind = "occupied"
	Busy       Kind = "busy"
	Gone       Kind = "gone"
	NoPlace    Kind = "noplace"
	NoStaging  Kind = "nostaging"
	NotMounted Kind = "notmounted"
	TooLarge   Kind = "toolarge"
	NotRegular Kind = "notregular"
	Denied     Kind = "denied"
	NoFile     Kind = "nofile"
	Failed     Kind = "failed"
)

// Answer is what the helper says.
type Answer struct {
	Kind Kind
	ID   int    // of the mount, for OK and Already
	Path string // as the container sees it
	Text string // why, for the others
}

// String is the answer in one line.
func (a Answer) String() string {
	return string(a.Kind) + " " + strconv.Itoa(a.ID) + " " + strconv.Quote(a.Path) + " " + strconv.Quote(a.Text) + "\n"
}

var errAnswer = errors.New("malformed answer of lls-mount")

// ParseAnswer reads what String wrote.
func ParseAnswer(s string) (Answer, error) {
	s, nl := strings.CutSuffix(s, "\n")
	kind, s, ok1 := strings.Cut(s, " ")
	number, s, ok2 := strings.Cut(s, " ")
	id, err := strconv.Atoi(number)
	if !nl || !ok1 || !ok2 || kind == "" || err != nil {
		return Answer{}, errAnswer
	}
	first, err := strconv.QuotedPrefix(s)
	if err != nil || len(s) <= len(first) || s[len(first)] != ' ' {
		return Answer{}, errAnswer
	}
	path, err1 := strconv.Unquote(first)
	text, err2 := strconv.Unquote(s[len(first)+1:])
	if err1 != nil || err2 != nil {
		return Answer{}, errAnswer
	}
	return Answer{Kind: Kind(kind), ID: id, Path: path, Text: text}, nil
}

// A failure is an answer on its way up.
type failure struct{ Answer }

func (f *failure) Error() string { return f.Text }

func fail(k Kind, path, text string) error {
	return &failure{Answer{Kind: k, Path: path, Text: text}}
}

// failed is for what has no kind of its own.
func failed(verb string, err error) error {
	if err == syscall.ESRCH {
		return fail(Gone, "", "the container has ended")
	}
	return fail(Failed, "", "cannot "+verb+": "+err.Error())
}

// Run does what the arguments say. It must be called on a locked thread, which
// is of no other use afterwards.
func Run(args []string) Answer {
	a, err := run(args)
	if f, ok := err.(*failure); ok {
		return f.Answer
	}
	if err != nil {
		return Answer{Kind: Failed, Text: err.Error()}
	}
	return a
}

func run(args []string) (Answer, error) {
	if len(args) == 0 {
		return Answer{}, errors.New("no operation")
	}
	op, args := args[0], args[1:]
	n, err := numbers(op, args)
	if err != nil {
		return Answer{}, err
	}
	c, err := enter(FDPid)
	if err != nil {
		return Answer{}, err
	}
	switch op {
	case OpInject:
		p, err := c.at(args[3], n[0], n[1])
		if err != nil {
			return Answer{}, err
		}
		return p.inject(args[2])
	case OpPlace, OpReplay:
		return c.place(args[0], uint32(n[1]), uint32(n[2]), args[3], op == OpReplay)
	case OpRead:
		return c.read(n[0], n[1], n[2], args[3])
	default:
		return c.unmount(uint32(n[0]), uint32(n[1]), n[2], args[3])
	}
}

// numbers checks how many arguments there are and reads the numeric ones.
func numbers(op string, args []string) (n [4]int, err error) {
	want := map[string]string{OpInject: "nnss", OpPlace: "snns", OpReplay: "snns", OpUnmount: "nnns", OpRead: "nnns"}[op]
	if want == "" || len(args) != len(want) {
		return n, errors.New("unknown operation or wrong arguments")
	}
	for i := range args {
		if want[i] == 'n' {
			u, err := strconv.ParseUint(args[i], 10, 32)
			if err != nil {
				return n, errors.New("malformed number")
			}
			n[i] = int(u)
		}
	}
	return n, nil
}
