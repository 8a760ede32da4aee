package lvmtest

import (
	"errors"
	"strings"
	"time"

	"lls/lvm"
)

func reportsEmptyGroup(k *check) {
	g := k.group()
	if g.UUID == "" || g.Size <= 0 || g.Free <= 0 || g.Free > g.Size || g.ExtentSize <= 0 {
		k.Errorf("group is %+v", g)
	}
	if len(g.Volumes)+len(g.Others) != 0 {
		k.Errorf("volumes are %v and %v, want none", g.Volumes, g.Others)
	}
	p := k.pool()
	if p.VG != k.VG || p.UUID == "" || p.Size != 512*lvm.MiB || p.MetadataSize <= 0 || p.ChunkSize != 64*lvm.KiB {
		k.Errorf("pool is %+v", p)
	}
	if !p.Zero || !p.Known || !p.Active || p.DataPercent != 0 || p.WhenFull != "queue" || p.CheckNeeded || p.Health != "" {
		k.Errorf("pool is %+v", p)
	}
	all, err := k.Host.Report(k.ctx)
	k.must(err)
	for _, g := range all {
		if g.Name == k.VG {
			return
		}
	}
	k.Errorf("a report of all groups lacks %s", k.VG)
}

func missingGroup(k *check) {
	_, err := k.Host.Report(k.ctx, "nosuchgroup")
	k.want(err, lvm.ErrNoGroup)
	_, err = k.Host.Report(k.ctx, k.VG, "nosuchgroup")
	k.want(err, lvm.ErrNoGroup)
	err = k.Host.Write(k.ctx, "nosuchgroup", func(w lvm.Writer) error {
		_, err := w.Report(k.ctx)
		return err
	})
	k.want(err, lvm.ErrNoGroup)
	err = k.Host.Write(k.ctx, "nosuchgroup", func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: "a", Size: lvm.GiB})
	})
	k.want(err, lvm.ErrNoGroup)
	if errors.Is(err, lvm.ErrUnknown) {
		k.Errorf("error is %v", err)
	}
	k.want(k.Host.TagPool(k.ctx, "nosuchgroup", k.Pool, []lvm.Tag{"x"}), lvm.ErrNoGroup)
}

func createsThin(k *check) {
	start := time.Now().Add(-2 * time.Second)
	k.must(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{
			Pool: k.Pool, Name: "data-1.x", Size: 9*lvm.MiB + 1, Tags: []lvm.Tag{Mark, "o=host"}, Activate: true,
		})
	}))
	v := k.volume("data-1.x")
	if v.VG != k.VG || v.UUID == "" || v.Size != 12*lvm.MiB || v.Pool != k.Pool || v.Origin != "" || !v.Thin || v.ThinID == 0 {
		k.Errorf("volume is %+v", v)
	}
	if !v.HasTag(Mark) || !v.HasTag("o=host") || len(v.Tags) != 2 {
		k.Errorf("tags are %v", v.Tags)
	}
	if !v.Active || v.Open || v.ReadOnly || v.Suspended || !v.SkipActivation || v.Major == 0 || !v.UsedKnown || v.UsedPercent != 0 {
		k.Errorf("volume is %+v", v)
	}
	if v.Created.Before(start) || v.Created.After(time.Now().Add(time.Second)) {
		k.Errorf("created at %v", v.Created)
	}
}

func createsInactive(k *check) {
	k.must(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: "a", Size: lvm.GiB, Tags: []lvm.Tag{Mark}})
	}))
	v := k.volume("a")
	if v.Active || v.UsedKnown || v.Major != 0 || v.Minor != 0 || !v.SkipActivation || v.ReadOnly || v.Size != lvm.GiB {
		k.Errorf("volume is %+v", v)
	}
}

func refusesCreate(k *check) {
	k.thin("a")
	before := k.volume("a")
	k.want(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: "a", Size: lvm.GiB, Tags: []lvm.Tag{Mark}})
	}), lvm.ErrExists)
	k.want(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: k.Pool, Size: lvm.GiB})
	}), lvm.ErrExists)
	k.want(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: "nosuchpool", Name: "b", Size: lvm.GiB})
	}), lvm.ErrNoPool)
	k.want(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{Pool: "a", Name: "b", Size: lvm.GiB})
	}), lvm.ErrNoPool)
	for _, size := range []lvm.Size{0, -1, lvm.MaxSize + 1} {
		k.want(k.write(func(w lvm.Writer) error {
			return w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: "b", Size: size})
		}), lvm.ErrBadSize)
	}
	k.absent("b")
	if after := k.volume("a"); after.UUID != before.UUID || after.Size != before.Size {
		k.Errorf("volume was %+v and is %+v", before, after)
	}
}

func snapshots(k *check) {
	k.thin("a")
	origin := k.volume("a")
	k.must(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "s1", Tags: []lvm.Tag{Mark, "n=s1"}, Activate: true})
	}))
	k.must(k.write(func(w lvm.Writer) error {
		if err := w.Deactivate(k.ctx, "a"); err != nil {
			return err
		}
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "s2", Tags: []lvm.Tag{Mark}, ReadOnly: true})
	}))
	s1, s2 := k.volume("s1"), k.volume("s2")
	for _, s := range []lvm.Volume{s1, s2} {
		if s.Origin != "a" || s.OriginUUID != origin.UUID || s.Pool != k.Pool || !s.Thin || s.Size != origin.Size || s.UUID == origin.UUID {
			k.Errorf("snapshot is %+v", s)
		}
	}
	if !s1.Active || s1.ReadOnly || !s1.SkipActivation || !s1.HasTag("n=s1") || s1.Major == 0 {
		k.Errorf("snapshot is %+v", s1)
	}
	if s2.Active || !s2.ReadOnly || !s2.SkipActivation || s2.HasTag("n=s1") {
		k.Errorf("snapshot is %+v", s2)
	}
	k.want(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "s1", Name: "s2", Tags: []lvm.Tag{Mark}})
	}), lvm.ErrExists)
}

func refusesSnapshot(k *check) {
	k.Plain(k.T, "plain")
	k.want(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "nosuch", Name: "s"})
	}), lvm.ErrNotFound)
	k.want(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "plain", Name: "s"})
	}), lvm.ErrNoPool)
	k.absent("s")
	k.want(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: k.Pool, Name: "s"})
	}), lvm.ErrNotFound)
	k.absent("s")
}

func originRemoved(k *check) {
	k.thin("a")
	k.must(k.write(func(w lvm.Writer) error {
		if err := w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "s", Tags: []lvm.Tag{Mark}, Activate: true}); err != nil {
			return err
		}
		return w.Remove(k.ctx, "a", nil)
	}))
	k.absent("a")
	if s := k.volume("s"); s.Origin != "" || !s.Active || !s.Thin {
		k.Errorf("snapshot is %+v", s)
	}
}

func refusesPool(k *check) {
	k.want(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: k.Pool, Size: 16 * lvm.MiB}), lvm.ErrExists)
	k.want(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: "p2", Size: lvm.TiB}), lvm.ErrNoSpace)
	k.want(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: "p2"}), lvm.ErrBadSize)
	k.want(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: "p_tdata", Size: 16 * lvm.MiB}), lvm.ErrBadName)
	if _, ok := k.group().Pool("p2"); ok {
		k.Error("pool p2 is there")
	}
}

func checksNames(k *check) {
	k.thin("a")
	for _, bad := range []lvm.Name{"", "-rf", "a b", "a/b", "..", "snapshot1", "x_tmeta", "@tag", lvm.Name(strings.Repeat("n", 128))} {
		k.must(k.write(func(w lvm.Writer) error {
			for _, err := range []error{
				w.CreateThin(k.ctx, lvm.CreateThin{Pool: k.Pool, Name: bad, Size: lvm.MiB}),
				w.CreateThin(k.ctx, lvm.CreateThin{Pool: bad, Name: "b", Size: lvm.MiB}),
				w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: bad}),
				w.Snapshot(k.ctx, lvm.Snapshot{Origin: bad, Name: "b"}),
				w.Retag(k.ctx, bad, []lvm.Tag{"t"}, nil),
				w.Adopt(k.ctx, bad, []lvm.Tag{"t"}),
				w.Activate(k.ctx, "a", bad),
				w.Deactivate(k.ctx, bad),
				w.Extend(k.ctx, bad, lvm.GiB),
				w.SetReadOnly(k.ctx, bad, true),
				w.Remove(k.ctx, bad, nil),
				w.ExtendPool(k.ctx, bad, lvm.GiB, 0),
			} {
				k.want(err, lvm.ErrBadName)
			}
			return nil
		}))
	}
	k.must(k.write(func(w lvm.Writer) error {
		for _, bad := range []lvm.Tag{"", "a b", "a,b", "@a", lvm.Tag(strings.Repeat("t", 129))} {
			k.want(w.Retag(k.ctx, "a", []lvm.Tag{bad}, nil), lvm.ErrBadName)
			k.want(w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: "b", Tags: []lvm.Tag{bad}}), lvm.ErrBadName)
		}
		return nil
	}))
	k.absent("b")
	// The device-mapper name doubles hyphens.
	k.want(k.write(func(w lvm.Writer) error {
		return w.Snapshot(k.ctx, lvm.Snapshot{Origin: "a", Name: lvm.Name("n" + strings.Repeat("-", 60))})
	}), lvm.ErrBadName)
}
