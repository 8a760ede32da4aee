package lvmtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"lls/lvm"
)

func retags(k *check) {
	k.thin("a", "old", "stay")
	for range 2 { // the second time all is as asked for already
		k.must(k.write(func(w lvm.Writer) error {
			return w.Retag(k.ctx, "a", []lvm.Tag{"new", "stay"}, []lvm.Tag{"old"})
		}))
		tags := k.volume("a").Tags
		slices.Sort(tags)
		if !slices.Equal(tags, []lvm.Tag{Mark, "new", "stay"}) {
			k.Fatalf("tags are %v", tags)
		}
	}
	k.want(k.write(func(w lvm.Writer) error { return w.Retag(k.ctx, "nosuch", []lvm.Tag{"x"}, nil) }), lvm.ErrNotFound)
	k.want(k.write(func(w lvm.Writer) error { return w.Retag(k.ctx, "a", []lvm.Tag{"x"}, []lvm.Tag{"x"}) }), lvm.ErrBadName)
}

func tagCharacters(k *check) {
	all := []lvm.Tag{"-leading", "+x", "/a/b", "a=b!c:d&e#f", "A.Z_0-9+", "#", "=", "--yes"}
	k.thin("a", all...)
	for _, t := range all {
		if !k.volume("a").HasTag(t) {
			k.Errorf("tag %s is lost: %v", t, k.volume("a").Tags)
		}
	}
	k.must(k.write(func(w lvm.Writer) error { return w.Retag(k.ctx, "a", nil, all) }))
	if tags := k.volume("a").Tags; !slices.Equal(tags, []lvm.Tag{Mark}) {
		k.Errorf("tags are %v", tags)
	}
}

func activates(k *check) {
	names := []lvm.Name{"a", "b", "c"}
	for _, n := range names {
		k.thin(n)
	}
	for range 2 {
		k.must(k.write(func(w lvm.Writer) error { return w.Deactivate(k.ctx, names...) }))
		for _, n := range names {
			if v := k.volume(n); v.Active || v.Major != 0 || v.UsedKnown {
				k.Fatalf("volume is %+v", v)
			}
		}
	}
	for range 2 {
		k.must(k.write(func(w lvm.Writer) error { return w.Activate(k.ctx, names...) }))
		minors := map[uint32]bool{}
		for _, n := range names {
			v := k.volume(n)
			if !v.Active || v.Major == 0 || minors[v.Minor] {
				k.Fatalf("volume is %+v", v)
			}
			minors[v.Minor] = true
		}
	}
	k.must(k.write(func(w lvm.Writer) error { return errors.Join(w.Activate(k.ctx), w.Deactivate(k.ctx)) }))
	k.want(k.write(func(w lvm.Writer) error { return w.Activate(k.ctx, "a", "nosuch") }), lvm.ErrNotFound)
}

func open(k *check) {
	k.thin("a")
	release := k.Open(k.T, "a")
	if !k.volume("a").Open {
		k.Error("volume is not reported open")
	}
	k.want(k.write(func(w lvm.Writer) error { return w.Deactivate(k.ctx, "a") }), lvm.ErrOpen)
	k.want(k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, "a", nil) }), lvm.ErrOpen)
	// A snapshot of it, and its growth, are nobody's hindrance.
	k.must(k.write(func(w lvm.Writer) error {
		if err := w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}}); err != nil {
			return err
		}
		return w.Extend(k.ctx, "a", 32*lvm.MiB)
	}))
	release()
	if v := k.volume("a"); v.Open || !v.Active {
		k.Errorf("volume is %+v", v)
	}
	k.must(k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, "a", nil) }))
	k.absent("a")
	k.want(k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, "a", nil) }), lvm.ErrNotFound)
	k.want(k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, k.Pool, nil) }), lvm.ErrNotFound)
}

func removesWhatIsToGo(k *check) {
	k.thin("a", "state")
	ask := func(answer bool) error {
		return k.write(func(w lvm.Writer) error {
			return w.Remove(k.ctx, "a", func(v lvm.Volume) bool {
				if v.Name != "a" || !v.HasTag("state") || v.HasTag("other") {
					k.Errorf("it is asked of %+v", v)
				}
				return answer
			})
		})
	}
	k.want(ask(false), lvm.ErrChanged)
	k.volume("a")
	k.must(ask(true))
	k.absent("a")
}

func extends(k *check) {
	k.thin("a")
	k.must(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}})
	}))
	for _, c := range []struct{ ask, want lvm.Size }{
		{17 * lvm.MiB, 20 * lvm.MiB}, {20 * lvm.MiB, 20 * lvm.MiB}, {2 * lvm.GiB, 2 * lvm.GiB},
	} {
		k.must(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "a", c.ask) }))
		if got := k.volume("a").Size; got != c.want {
			k.Errorf("after extension to %s it has %s, want %s", c.ask, got, c.want)
		}
	}
	k.want(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "a", lvm.GiB) }), lvm.ErrShrink)
	k.want(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "a", 0) }), lvm.ErrBadSize)
	k.want(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "nosuch", lvm.GiB) }), lvm.ErrNotFound)
	if got := k.volume("s").Size; got != 16*lvm.MiB {
		k.Errorf("its snapshot has %s", got)
	}
}

func readOnly(k *check) {
	k.thin("a")
	k.must(k.write(func(w lvm.Writer) error { return w.Deactivate(k.ctx, "a") }))
	for _, active := range []bool{false, true} {
		for _, ro := range []bool{true, true, false, false} {
			k.must(k.write(func(w lvm.Writer) error { return w.SetReadOnly(k.ctx, "a", ro) }))
			if v := k.volume("a"); v.ReadOnly != ro || v.Active != active {
				k.Errorf("volume is %+v", v)
			}
		}
		k.must(k.write(func(w lvm.Writer) error { return w.Activate(k.ctx, "a") }))
	}
	k.want(k.write(func(w lvm.Writer) error { return w.SetReadOnly(k.ctx, "nosuch", true) }), lvm.ErrNotFound)
}

// dependent wants a refusal that names who depends.
func (k *check) dependent(name lvm.Name, by ...lvm.Name) {
	k.Helper()
	err := k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, name, nil) })
	var refusal *lvm.DependentsError
	if !errors.As(err, &refusal) {
		k.Fatalf("error is %v, want a *DependentsError", err)
	}
	slices.Sort(refusal.Dependents)
	if !slices.Equal(refusal.Dependents, by) {
		k.Errorf("dependents are %v, want %v", refusal.Dependents, by)
	}
	k.volume(name)
	for _, n := range by {
		k.volume(n)
	}
}

func classicDependent(k *check) {
	k.Plain(k.T, "plain")
	k.must(k.write(func(w lvm.Writer) error { return w.Adopt(k.ctx, "plain", []lvm.Tag{Mark}) }))
	k.Classic(k.T, "plain", "classic")
	if v := k.volume("classic"); v.Origin != "plain" || v.Thin || v.Pool != "" {
		k.Errorf("classic snapshot is %+v", v)
	}
	k.dependent("plain", "classic")
	k.must(k.write(func(w lvm.Writer) error {
		if err := w.Adopt(k.ctx, "classic", []lvm.Tag{Mark}); err != nil {
			return err
		}
		if err := w.Remove(k.ctx, "classic", nil); err != nil {
			return err
		}
		return w.Remove(k.ctx, "plain", nil)
	}))
	k.absent("plain")
}

func externalDependent(k *check) {
	k.Plain(k.T, "plain")
	k.must(k.write(func(w lvm.Writer) error { return w.Adopt(k.ctx, "plain", []lvm.Tag{Mark}) }))
	k.External(k.T, "plain", "ext")
	if v := k.volume("ext"); v.Origin != "plain" || !v.Thin || v.Pool != k.Pool {
		k.Errorf("volume is %+v", v)
	}
	k.dependent("plain", "ext")
	k.must(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "ext", Name: "s", Tags: []lvm.Tag{Mark}})
	}))
	k.dependent("plain", "ext", "s")
}

func managed(k *check) {
	k.Plain(k.T, "plain")
	for step, do := range map[string]func(w lvm.Writer) error{
		"Extend":      func(w lvm.Writer) error { return w.Extend(k.ctx, "plain", 32*lvm.MiB) },
		"SetReadOnly": func(w lvm.Writer) error { return w.SetReadOnly(k.ctx, "plain", true) },
		"Remove":      func(w lvm.Writer) error { return w.Remove(k.ctx, "plain", nil) },
		"Retag":       func(w lvm.Writer) error { return w.Retag(k.ctx, "plain", []lvm.Tag{"x"}, nil) },
		"Deactivate":  func(w lvm.Writer) error { return w.Deactivate(k.ctx, "plain") },
	} {
		err := k.write(func(w lvm.Writer) error {
			if _, err := w.Report(k.ctx); err != nil { // Retag and Deactivate look at what it saw
				return err
			}
			return do(w)
		})
		if !errors.Is(err, lvm.ErrNotManaged) {
			k.Errorf("%s gives %v, want %v", step, err, lvm.ErrNotManaged)
		}
	}
	if v := k.volume("plain"); v.Size != 8*lvm.MiB || v.ReadOnly || !v.Active || len(v.Tags) != 0 {
		k.Errorf("volume is %+v", v)
	}
	k.must(k.write(func(w lvm.Writer) error { return w.Adopt(k.ctx, "plain", []lvm.Tag{Mark, "x"}) }))
	k.want(k.write(func(w lvm.Writer) error {
		if _, err := w.Report(k.ctx); err != nil {
			return err
		}
		return w.Adopt(k.ctx, "plain", []lvm.Tag{"y"})
	}), lvm.ErrExists)
	k.must(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "plain", 16*lvm.MiB) }))
	k.want(k.write(func(w lvm.Writer) error { return w.Extend(k.ctx, "plain", lvm.TiB) }), lvm.ErrNoSpace)
	k.must(k.write(func(w lvm.Writer) error { return w.Remove(k.ctx, "plain", nil) }))
}

func growsPool(k *check) {
	was := k.pool()
	size, metadata := was.Size+8*lvm.MiB, was.MetadataSize+4*lvm.MiB
	for range 2 {
		k.must(k.write(func(w lvm.Writer) error { return w.ExtendPool(k.ctx, k.Pool, size, metadata) }))
		if p := k.pool(); p.Size != size || p.MetadataSize != metadata {
			k.Fatalf("pool was %+v and is %+v", was, p)
		}
	}
	k.want(k.write(func(w lvm.Writer) error { return w.ExtendPool(k.ctx, k.Pool, lvm.MiB, 0) }), lvm.ErrShrink)
	free := k.group().Free
	for _, c := range []struct{ data, metadata lvm.Size }{
		{lvm.TiB, 0}, {lvm.TiB, metadata + 4*lvm.MiB}, {0, metadata + free + 4*lvm.MiB}, {size + free, metadata + 4*lvm.MiB},
	} {
		k.want(k.write(func(w lvm.Writer) error { return w.ExtendPool(k.ctx, k.Pool, c.data, c.metadata) }), lvm.ErrNoSpace)
		if p := k.pool(); p.Size != size || p.MetadataSize != metadata || k.group().Free != free {
			k.Errorf("pool is %+v after it could not grow to %+v", p, c)
		}
	}
	k.want(k.write(func(w lvm.Writer) error { return w.ExtendPool(k.ctx, k.Pool, 0, 16*lvm.GiB) }), lvm.ErrBadSize)
	k.want(k.write(func(w lvm.Writer) error { return w.ExtendPool(k.ctx, "nosuch", lvm.TiB, 0) }), lvm.ErrNoPool)
}

func tagsPool(k *check) {
	k.must(k.Host.TagPool(k.ctx, k.VG, k.Pool, []lvm.Tag{"lls.pool"}))
	k.must(k.Host.TagPool(k.ctx, k.VG, k.Pool, []lvm.Tag{"lls.pool"}))
	if p := k.pool(); !p.HasTag("lls.pool") {
		k.Errorf("pool is %+v", p)
	}
	k.want(k.Host.TagPool(k.ctx, k.VG, "nosuch", []lvm.Tag{"x"}), lvm.ErrNoPool)
}

func oneWriter(k *check) {
	var mu sync.Mutex
	var order []int
	inside, most := 0, 0
	var wait sync.WaitGroup
	entered := make(chan struct{})
	leave := make(chan struct{})
	wait.Go(func() {
		k.Check(k.write(func(lvm.Writer) error {
			close(entered)
			<-leave
			return nil
		}))
	})
	<-entered
	for i := range 4 {
		wait.Go(func() {
			k.Check(k.write(func(lvm.Writer) error {
				mu.Lock()
				inside++
				most = max(most, inside)
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				return nil
			}))
		})
		time.Sleep(200 * time.Millisecond) // they queue one after the other
	}
	close(leave)
	wait.Wait()
	if most != 1 || !slices.Equal(order, []int{0, 1, 2, 3}) {
		k.Errorf("%d at once, in the order %v", most, order)
	}
}

// Check reports an error from any goroutine.
func (k *check) Check(err error) {
	if err != nil {
		k.Error(err)
	}
}

func waitsWithContext(k *check) {
	k.must(k.write(func(lvm.Writer) error {
		ctx, cancel := context.WithTimeout(k.ctx, 30*time.Millisecond)
		defer cancel()
		k.want(k.Host.Write(ctx, k.VG, func(lvm.Writer) error { return nil }), context.DeadlineExceeded)
		return nil
	}))
	k.must(k.write(func(lvm.Writer) error { return nil }))
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	k.want(k.Host.Write(ctx, k.VG, func(lvm.Writer) error { k.Error("was called"); return nil }), context.Canceled)
}

func closesWriter(k *check) {
	k.thin("a")
	var kept lvm.Writer
	failure := errors.New("own error")
	k.want(k.write(func(w lvm.Writer) error { kept = w; return failure }), failure)
	_, err := kept.Report(k.ctx)
	for _, err := range []error{
		err,
		kept.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: "b", Size: lvm.GiB}),
		kept.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "b"}),
		kept.Retag(k.ctx, "a", []lvm.Tag{"x"}, nil),
		kept.Adopt(k.ctx, "a", []lvm.Tag{"x"}),
		kept.Activate(k.ctx, "a"),
		kept.Deactivate(k.ctx, "a"),
		kept.Extend(k.ctx, "a", lvm.GiB),
		kept.SetReadOnly(k.ctx, "a", true),
		kept.Remove(k.ctx, "a", nil),
		kept.ExtendPool(k.ctx, k.Pool, lvm.GiB, 0),
		kept.SetFallback(k.ctx, k.Pool, lvm.Fallback{Threshold: 80, Percent: 20}),
	} {
		k.want(err, lvm.ErrClosedWriter)
	}
	k.volume("a")
	k.absent("b")
}

func backsUp(k *check) {
	for range 3 {
		k.must(k.Host.Backup(k.ctx, k.VG))
	}
	if err := k.Host.Backup(k.ctx, "nosuchgroup"); err == nil {
		k.Error("backed up a group that does not exist")
	}
}
