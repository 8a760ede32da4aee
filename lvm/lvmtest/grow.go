package lvmtest

import "lls/lvm"

// costs wants what was done to have taken so much of the group's free space.
func (k *check) costs(want lvm.Size, do func(w lvm.Writer) error) {
	k.Helper()
	before := k.group().Free
	k.must(k.write(do))
	if got := before - k.group().Free; got != want {
		k.Errorf("it took %s of the group, want %s", got, want)
	}
}

func metadataCosts(k *check) {
	was := k.pool().MetadataSize
	grow := func(pool lvm.Name, to, want lvm.Size) {
		k.Helper()
		if got := k.group().MetadataCost(pool, to); got != want {
			k.Errorf("%s of metadata for %s are said to cost %s, want %s", to, pool, got, want)
		}
		k.costs(want, func(w lvm.Writer) error { return w.ExtendPool(k.ctx, pool, 0, to) })
	}
	grow(k.Pool, was+5*lvm.MiB, 16*lvm.MiB) // two extents, and the spare
	grow(k.Pool, k.pool().MetadataSize, 0)

	// A second pool uses the spare there is, until its metadata is the larger one.
	const second = lvm.Name("second")
	small := 4 * lvm.MiB
	if got := k.group().MetadataCost(second, small); got != small {
		k.Errorf("a second pool's metadata of %s is said to cost %s", small, got)
	}
	before := k.group().Free
	k.must(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: second, Size: 8 * lvm.MiB, MetadataSize: small}))
	if got, want := before-k.group().Free, 8*lvm.MiB+small; got != want {
		k.Errorf("a second pool took %s, want %s", got, want)
	}
	grow(second, 8*lvm.MiB, 4*lvm.MiB)
	largest := k.pool().MetadataSize
	grow(second, largest+4*lvm.MiB, largest-8*lvm.MiB+4*lvm.MiB+4*lvm.MiB)
}

// LVM extends metadata along with data.
func dataCostsMetadata(k *check) {
	const small = lvm.Name("small")
	k.must(k.Host.CreatePool(k.ctx, lvm.CreatePool{VG: k.VG, Name: small, Size: 8 * lvm.MiB, MetadataSize: 4 * lvm.MiB, ChunkSize: 64 * lvm.KiB}))
	pool := func() lvm.Pool {
		k.Helper()
		p, ok := k.group().Pool(small)
		if !ok {
			k.Fatal("the pool is not reported")
		}
		return p
	}
	for _, c := range []struct{ data, metadata, took lvm.Size }{
		{512 * lvm.MiB, 4 * lvm.MiB, 504 * lvm.MiB},
		{4096 * lvm.MiB, 4 * lvm.MiB, (4096 - 512) * lvm.MiB},
		{4100 * lvm.MiB, 8 * lvm.MiB, 8 * lvm.MiB}, // the spare is that of the other pool
	} {
		if c.data > pool().Size+k.group().Free {
			k.Fatalf("the group is too small: %+v", k.group())
		}
		if got := k.group().ExtendCost(small, c.data, 0); got != c.took {
			k.Errorf("%s of data are said to cost %s, want %s", c.data, got, c.took)
		}
		k.costs(c.took, func(w lvm.Writer) error { return w.ExtendPool(k.ctx, small, c.data, 0) })
		if p := pool(); p.Size != c.data || p.MetadataSize != c.metadata {
			k.Errorf("pool is %+v, want %+v", p, c)
		}
	}
}

func fallback(k *check) {
	set := func(f lvm.Fallback) {
		k.Helper()
		k.must(k.write(func(w lvm.Writer) error { return w.SetFallback(k.ctx, k.Pool, f) }))
		if p := k.pool(); p.Fallback() != f || f == (lvm.Fallback{}) && p.Profile != "" {
			k.Errorf("fallback is %+v, want %+v: %+v", p.Fallback(), f, p)
		}
	}
	for _, f := range []lvm.Fallback{{}, {Threshold: 80, Percent: 20}, {Threshold: 80, Percent: 20}, {Threshold: 99, Percent: 1}, {Threshold: 50, Percent: 100}, {}, {}} {
		set(f)
	}
	set(lvm.Fallback{Threshold: 80, Percent: 20})
	for _, f := range []lvm.Fallback{{Threshold: 49, Percent: 20}, {Threshold: 100, Percent: 20}, {Threshold: 80}, {Percent: 20}, {Threshold: 80, Percent: 101}, {Threshold: 80, Percent: -1}} {
		k.want(k.write(func(w lvm.Writer) error { return w.SetFallback(k.ctx, k.Pool, f) }), lvm.ErrBadFallback)
	}
	k.want(k.write(func(w lvm.Writer) error {
		return w.SetFallback(k.ctx, "nosuch", lvm.Fallback{Threshold: 80, Percent: 20})
	}), lvm.ErrNoPool)
	if f := k.pool().Fallback(); f.Threshold != 80 || f.Percent != 20 {
		k.Errorf("fallback is %+v after refusals", f)
	}
	k.thin("a") // below the threshold, volumes are made as ever
}

func foreignProfile(k *check) {
	const theirs = "thin-performance" // which LVM ships
	k.Profile(k.T, theirs)
	k.want(k.write(func(w lvm.Writer) error {
		return w.SetFallback(k.ctx, k.Pool, lvm.Fallback{Threshold: 80, Percent: 20})
	}), lvm.ErrForeignProfile)
	k.must(k.write(func(w lvm.Writer) error { return w.SetFallback(k.ctx, k.Pool, lvm.Fallback{}) }))
	if p := k.pool(); p.Profile != theirs || p.Fallback() != (lvm.Fallback{}) {
		k.Errorf("pool is %+v", p)
	}
	k.Profile(k.T, "")
	if p := k.pool(); p.Profile != "" {
		k.Errorf("pool is %+v", p)
	}
}
