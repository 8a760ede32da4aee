package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/lvm"
	"lls/policy"
)

// LVM is what the agent needs of logical volume management; *lvm.Host is the real one.
type LVM interface {
	Report(ctx context.Context, vgs ...lvm.VG) ([]lvm.Group, error)
	Write(ctx context.Context, vg lvm.VG, fn func(w lvm.Writer) error) error
	Backup(ctx context.Context, vg lvm.VG) error
	Device(vg lvm.VG, name lvm.Name) string
}

// Deadlines of LVM commands. They are generous: a command that is given up is not killed, and its outcome has to be found out.
const (
	reportDeadline = 60 * time.Second
	writeDeadline  = 5 * time.Minute
)

// View is one moment of the volume groups. It is never changed.
type View struct {
	Groups  []lvm.Group
	Catalog *catalog.Catalog
	Missing []error // groups that could not be read, and why
	at      time.Time
	pools   []policy.Pool
}

// pool is the configured pool that a volume is in.
func (v *View) pool(vol lvm.Volume) policy.Pool {
	p, _ := poolOf(vol, v.Groups, v.pools)
	return p
}

// store keeps the last report of the configured groups, and is the only way to change one. What the agent changes itself is put
// into the view at once, so it is exact but for what others do to the groups.
type store struct {
	lvm  LVM
	log  *slog.Logger
	now  func() time.Time
	gate *gate // of all that writes
	// begin is called when a report begins, and what it gives when the report is there: with the view before, which may be nil, and has
	// in it all that we changed ourselves.
	begin func() (ended func(was, now *View))

	reading chan struct{} // holds one token while a report runs
	changed chan struct{} // has an element when the view was replaced, or dropped, since somebody looked

	mu    sync.Mutex
	pools []policy.Pool
	view  *View
	since *missed              // while a report runs: what it may have missed
	dirty map[lvm.VG]time.Time // changed and not backed up since
}

func newStore(l LVM, log *slog.Logger, now func() time.Time, g *gate) *store {
	return &store{lvm: l, log: log, now: now, gate: g, begin: func() func(was, now *View) { return func(_, _ *View) {} }, reading: make(chan struct{}, 1), changed: make(chan struct{}, 1), dirty: map[lvm.VG]time.Time{}}
}

// setPools says which pools there are; the view is read anew at the next question.
func (s *store) setPools(pools []policy.Pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = pools
	s.replace(nil)
	s.miss("", nil)
}

// replace puts another view in place; nil has the next question read one. The caller holds s.mu.
func (s *store) replace(v *View) {
	s.view = v
	select {
	case s.changed <- struct{}{}:
	default: // somebody is about to look already
	}
}

// current returns a view that is at most maxAge old, or was made by our own changes from one that is.
func (s *store) current(ctx context.Context, maxAge time.Duration) (*View, error) {
	asked := s.now()
	if v := s.fresh(asked.Add(-maxAge)); v != nil {
		return v, nil
	}
	select { // one report at a time; who waited takes the other's if it began late enough
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot read the volume groups: %w", ctx.Err())
	}
	if v := s.fresh(asked.Add(-maxAge)); v != nil {
		return v, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportDeadline)
	defer cancel()
	s.mu.Lock()
	s.since = &missed{}
	pools := s.pools
	s.mu.Unlock()
	began, ended := s.now(), s.begin()
	v, err := s.read(ctx, pools)
	was, v := s.take(v, began)
	if err != nil {
		return nil, err
	}
	ended(was, v)
	return v, nil
}

// take puts a view that was read since began in place, with what was changed meanwhile, and gives the one before, or nil. v is nil when
// it could not be read.
func (s *store) take(v *View, began time.Time) (was, now *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missed := s.since
	s.since = nil
	if v == nil {
		return nil, nil
	}
	v.at = began
	for _, m := range missed.edits {
		v = v.edited(m.vg, m.edit)
	}
	if !missed.unknown {
		was = s.view
		s.replace(v)
	}
	return was, v
}

// missed is what we changed ourselves while a report ran, which may hold it or not. Reading again until nothing happened meanwhile would
// let a busy container keep all others waiting.
type missed struct {
	edits   []editOf
	unknown bool // something failed, with an outcome that is not known: the report answers those who asked before, and is not kept
}

type editOf struct {
	vg   lvm.VG
	edit edit
}

// miss notes a change for the report that runs; a nil edit is one that is not known. The caller holds s.mu.
func (s *store) miss(vg lvm.VG, e edit) {
	switch {
	case s.since == nil:
	case e == nil:
		s.since.unknown = true
	default:
		s.since.edits = append(s.since.edits, editOf{vg, e})
	}
}

// forget has the next question read the groups: something of them changed that no edit can tell. A report under way may miss it.
func (s *store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.miss("", nil)
	s.replace(nil)
}

// latest is the view at hand, however old; nil when there is none.
func (s *store) latest() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *store) fresh(notBefore time.Time) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil || s.view.at.Before(notBefore) {
		return nil
	}
	return s.view
}

// read makes a view of the groups of these pools. A group that is not there does not hide the others.
func (s *store) read(ctx context.Context, pools []policy.Pool) (*View, error) {
	v := &View{pools: pools}
	vgs := groupsOf(pools)
	if len(vgs) == 0 {
		v.Catalog = catalog.New(nil)
		return v, nil
	}
	groups, err := s.lvm.Report(ctx, vgs...)
	if errors.Is(err, lvm.ErrNoGroup) {
		groups, err = nil, nil
		for _, vg := range vgs {
			one, oneErr := s.lvm.Report(ctx, vg)
			switch {
			case oneErr == nil:
				groups = append(groups, one...)
			case errors.Is(oneErr, lvm.ErrNoGroup):
				v.Missing = append(v.Missing, oneErr)
			default:
				return nil, oneErr
			}
		}
	}
	if err != nil {
		return nil, err
	}
	v.Groups = groups
	v.Catalog = catalog.New(managedOnly(groups, pools))
	return v, nil
}

// managedOnly leaves of each group the volumes in configured pools that carry their tag: a tag of ours on anything else means nothing.
func managedOnly(groups []lvm.Group, pools []policy.Pool) []lvm.Group {
	var kept []lvm.Group
	for _, g := range groups {
		k := lvm.Group{Name: g.Name}
		for _, v := range g.Volumes {
			if _, ok := poolOf(v, groups, pools); ok {
				k.Volumes = append(k.Volumes, v)
			}
		}
		kept = append(kept, k)
	}
	return kept
}

// poolOf finds the configured and tagged pool of a volume.
func poolOf(v lvm.Volume, groups []lvm.Group, pools []policy.Pool) (policy.Pool, bool) {
	for _, p := range pools {
		if lvm.VG(p.Group) != v.VG || lvm.Name(p.LV) != v.Pool {
			continue
		}
		lv, ok := findPool(groups, p)
		return p, ok && lv.HasTag(catalog.PoolTag(p.Name))
	}
	return policy.Pool{}, false
}

func findPool(groups []lvm.Group, p policy.Pool) (lvm.Pool, bool) {
	for _, g := range groups {
		if g.Name == lvm.VG(p.Group) {
			return g.Pool(lvm.Name(p.LV))
		}
	}
	return lvm.Pool{}, false
}

func groupsOf(pools []policy.Pool) []lvm.VG {
	var vgs []lvm.VG
	for _, p := range pools {
		if vg := lvm.VG(p.Group); !slices.Contains(vgs, vg) {
			vgs = append(vgs, vg)
		}
	}
	return vgs
}

// write gives do the one writer of vg and the view as it is then, which nobody else changes meanwhile. What do returns is applied
// to the volumes of the group in the view. The writer's commands are not cut short by a client that goes away: waiting for the turn is.
// While the host goes down it is errShutdown, but for what belongs to work that is under way.
func (s *store) write(ctx context.Context, vg lvm.VG, do func(ctx context.Context, w lvm.Writer, v *View) (edit, error)) error {
	ctx, leaveGate, ok := s.gate.enter(ctx)
	if !ok {
		return goingDown("change anything")
	}
	defer leaveGate()
	leave, err := takeTurn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.lvm.Write(ctx, vg, func(w lvm.Writer) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeDeadline)
		defer cancel()
		v, err := s.current(ctx, time.Hour)
		if err != nil {
			return err
		}
		change, err := do(ctx, w, v)
		s.mu.Lock()
		defer s.mu.Unlock()
		var refused *api.Error
		if errors.As(err, &refused) && change == nil {
			return err // before anything was changed
		}
		s.dirty[vg] = s.now()
		switch {
		case err != nil:
			s.miss(vg, nil)
			s.replace(nil) // whatever happened, the next question reads it
		case change != nil:
			s.miss(vg, change)
			if s.view != nil {
				s.replace(s.view.edited(vg, change))
			}
		}
		return err
	})
}

// turnKey is the context's key of a container's turn.
type turnKey struct{}

// withTurn has all writes under ctx wait for a turn, which holds one token: the writer serves who comes first, and one container with
// many requests would else stand in its queue many times.
func withTurn(ctx context.Context, turn chan struct{}) context.Context {
	return context.WithValue(ctx, turnKey{}, turn)
}

func takeTurn(ctx context.Context) (leave func(), err error) {
	turn, ok := ctx.Value(turnKey{}).(chan struct{})
	if !ok {
		return func() {}, nil
	}
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot wait for the container's other changes: %w", context.Cause(ctx))
	}
}

// edit changes a copy of a group's thin volumes. It may be applied to volumes that it has changed already.
type edit func(volumes []lvm.Volume) []lvm.Volume

// appended is the edit that adds a volume.
func appended(v lvm.Volume) edit {
	return func(all []lvm.Volume) []lvm.Volume { return append(removed(v.Name)(all), v) }
}

// removed is the edit that takes a volume away.
func removed(name lvm.Name) edit {
	return func(all []lvm.Volume) []lvm.Volume {
		return slices.DeleteFunc(all, func(v lvm.Volume) bool { return v.Name == name })
	}
}

// changed is the edit that changes one volume.
func changed(name lvm.Name, change func(v *lvm.Volume)) edit {
	return func(all []lvm.Volume) []lvm.Volume {
		for i := range all {
			if all[i].Name == name {
				change(&all[i])
			}
		}
		return all
	}
}

// both is one edit after another. nil is none.
func both(first, second edit) edit {
	if first == nil {
		return second
	}
	return func(all []lvm.Volume) []lvm.Volume { return second(first(all)) }
}

func (v *View) edited(vg lvm.VG, change edit) *View {
	now := &View{Groups: slices.Clone(v.Groups), Missing: v.Missing, at: v.at, pools: v.pools}
	for i, g := range now.Groups {
		if g.Name == vg {
			now.Groups[i].Volumes = change(slices.Clone(g.Volumes))
		}
	}
	now.Catalog = catalog.New(managedOnly(now.Groups, now.pools))
	return now
}

// backup copies the metadata of the groups that changed and have been quiet for a while.
func (s *store) backup(ctx context.Context, quiet time.Duration) {
	s.mu.Lock()
	var due []lvm.VG
	for vg, at := range s.dirty {
		if s.now().Sub(at) >= quiet {
			due = append(due, vg)
			delete(s.dirty, vg)
		}
	}
	s.mu.Unlock()
	for _, vg := range due {
		ctx, cancel := context.WithTimeout(ctx, reportDeadline)
		if err := s.lvm.Backup(ctx, vg); err != nil {
			s.log.Warn("cannot back up the volume group's metadata", "vg", vg, "error", err)
		}
		cancel()
	}
}
