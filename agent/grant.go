package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lls/agent/catalog"
)

// Keeper keeps files open while the agent is not there; systemd's is the real one.
type Keeper interface {
	// Kept are the files that an earlier agent kept, by name. They are the caller's. A name without files was kept, and lost since.
	Kept() (map[string][]*os.File, error)
	// Keep makes sure first that the name will not be lost, nor the note that comes with it.
	Keep(name, note string, f *os.File) error
	// Renote puts another note in the place of that of Keep.
	Renote(name, note string) error
	// Noted is the note of a name that is kept; it may be empty.
	Noted(name string) (string, error)
	Forget(name string) error
}

// A grant is a container's right to open a device raw. Its file keeps the device, and so its number, from being used again before the
// grant is taken back for certain: a node or a device rule that is still there must never lead to somebody else's volume.
type grant struct {
	key    string // of the container
	id     catalog.ID
	device device
	write  bool
}

// name is what the grant's file is kept under. After a restart it is all there is to know of what was granted.
func (g grant) name() string {
	access := "r"
	if g.write {
		access = "rw"
	}
	return fmt.Sprintf("raw-%s-%s-%s-%d-%d", g.key, g.id, access, g.device.major, g.device.minor)
}

// rule is the grant in the words of the device cgroup.
func (g grant) rule() string {
	access := "r"
	if g.write {
		access = "rw"
	}
	return fmt.Sprintf("b %d:%d %s", g.device.major, g.device.minor, access)
}

// parseGrant reads the name of a grant.
func parseGrant(name string) (grant, error) {
	if part := strings.Split(name, "-"); len(part) == 6 {
		major, majorErr := strconv.ParseUint(part[4], 10, 32)
		minor, minorErr := strconv.ParseUint(part[5], 10, 32)
		g := grant{part[1], catalog.ID(part[2]), device{uint32(major), uint32(minor)}, part[3] == "rw"}
		if majorErr == nil && minorErr == nil && g.name() == name {
			return g, nil
		}
	}
	return grant{}, fmt.Errorf("cannot tell what was kept as %q", name)
}

// isDevice says whether a file is this device.
func isDevice(f *os.File, d device) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && unix.Major(st.Rdev) == d.major && unix.Minor(st.Rdev) == d.minor
}

// rawAccess is what containers may do raw at the moment.
type rawAccess struct {
	keeper Keeper
	checks chan struct{} // holds one for each check of a file system that is under way

	mu      sync.Mutex
	grants  map[grant]*os.File
	lost    map[grant]bool           // of an earlier agent: the rule may be in force, and nobody held the device since
	bearers map[grant]bearer         // of all these; the zero bearer where that is not known
	hidden  map[string]bool          // the keys of containers that are not listed and may run
	blocked map[catalog.ID]int       // nobody may open these raw
	ending  bool                     // nobody may open any
	tried   map[catalog.ID]time.Time // when a device was last tried to be made anew that was cut off
}

// newRaw takes over what an earlier agent granted. What is not wanted any more is taken back when its container is looked at.
func newRaw(k Keeper) (*rawAccess, error) {
	r := &rawAccess{
		keeper: k, checks: make(chan struct{}, maxChecks), grants: map[grant]*os.File{}, lost: map[grant]bool{}, blocked: map[catalog.ID]int{},
		bearers: map[grant]bearer{}, tried: map[catalog.ID]time.Time{},
	}
	kept, err := k.Kept()
	errs := []error{err}
	for name, files := range kept {
		g, err := parseGrant(name)
		if err != nil {
			errs = append(errs, err)
		}
		for _, f := range files {
			if err == nil && r.grants[g] == nil && isDevice(f, g.device) {
				r.grants[g] = f
			} else {
				errs = append(errs, f.Close())
			}
		}
		if err != nil {
			continue
		}
		if r.grants[g] == nil {
			r.lost[g] = true
		}
		note, err := k.Noted(name)
		errs = append(errs, err)
		r.bearers[g] = readBearer(note)
	}
	return r, errors.Join(errs...)
}

// of are the grants that a function picks, in a fixed order, also those that were lost.
func (r *rawAccess) of(pick func(grant) bool) []grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[grant]bool{}
	for g := range r.grants {
		all[g] = pick(g)
	}
	for g := range r.lost {
		all[g] = pick(g)
	}
	maps.DeleteFunc(all, func(_ grant, picked bool) bool { return !picked })
	return slices.SortedFunc(maps.Keys(all), func(a, b grant) int { return strings.Compare(a.name(), b.name()) })
}

// lostOf are the grants of a container, or of all for "", that were lost.
func (r *rawAccess) lostOf(key string) []grant {
	return r.of(func(g grant) bool { return r.lost[g] && (key == "" || g.key == key) })
}

// end lets nobody open anything raw any more.
func (r *rawAccess) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ending = true
}

// block lets nobody open a volume raw from now on, until the result is called. What is granted stays so until settle.
func (r *rawAccess) block(id catalog.ID) (unblock func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked[id]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.blocked[id]--; r.blocked[id] == 0 {
			delete(r.blocked, id)
		}
	}
}

// maxChecks is how many file systems are checked at once.
const maxChecks = 2

// maxGrants is how many there may be at once: a few less than systemd keeps (FileDescriptorStoreMax of our unit).
const maxGrants = 4000

var errBlocked = errors.New("it is about to be used otherwise")

// add notes a grant that is about to be made to b, whose device f is.
func (r *rawAccess) add(g grant, b bearer, f *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending || r.blocked[g.id] > 0 {
		return errBlocked
	}
	if len(r.grants) >= maxGrants {
		return errors.New("there are too many already")
	}
	if err := r.keeper.Keep(g.name(), b.note(), f); err != nil {
		return err
	}
	r.grants[g], r.bearers[g] = f, b
	return nil
}

// bear notes that a grant is another run's of its container now.
func (r *rawAccess) bear(g grant, b bearer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grants[g] == nil || r.bearers[g] == b {
		return nil
	}
	if err := r.keeper.Renote(g.name(), b.note()); err != nil {
		return err
	}
	r.bearers[g] = b
	return nil
}

// forget is for a grant that was taken back for certain.
func (r *rawAccess) forget(g grant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.grants[g]
	if f == nil && !r.lost[g] {
		return nil
	}
	delete(r.grants, g)
	delete(r.lost, g)
	delete(r.bearers, g)
	err := r.keeper.Forget(g.name())
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	return err
}

// others says whether somebody else than the caller, who has blocked it, has blocked it too: it is being mounted, or made anew.
func (r *rawAccess) others(id catalog.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocked[id] > 1
}

func (r *rawAccess) isBlocked(id catalog.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending || r.blocked[id] > 0
}
