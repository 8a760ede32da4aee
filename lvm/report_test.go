package lvm

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Recorded from the same commands on Debian 12 and 13.
var recordings = []string{"testdata/fullreport-2.03.16.json", "testdata/fullreport-2.03.31.json"}

func recorded(t *testing.T, path string) Group {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := parseReport(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 1 {
		t.Fatalf("%d groups", len(groups))
	}
	return groups[0]
}

func TestRecordedReports(t *testing.T) {
	for _, path := range recordings {
		t.Run(path, func(t *testing.T) {
			g := recorded(t, path)
			if g.Name != "vg-0" || g.UUID == "" || g.Size != 8585740288 || g.Free <= 0 || g.Free >= g.Size || g.ExtentSize != 4*MiB {
				t.Errorf("group is %+v", g)
			}
			if len(g.Pools) != 1 || len(g.Volumes) != 5 || len(g.Others) != 4 {
				t.Fatalf("%d pools, %d thin volumes, %d others", len(g.Pools), len(g.Volumes), len(g.Others))
			}
			p := g.Pools[0]
			if p.VG != "vg-0" || p.Name != "pool" || p.Size != 512*MiB || p.MetadataSize != 4*MiB || p.ChunkSize != 64*KiB || !p.Zero ||
				!p.Known || p.DataPercent != 0.78 || p.MetadataPercent < 10 || p.WhenFull != "queue" || !p.Active || p.CheckNeeded ||
				p.Health != "" || !p.HasTag("lls.pool") {
				t.Errorf("pool is %+v", p)
			}
			d, _ := g.Volume("data.1")
			if d.Size != 16*MiB || d.Pool != "pool" || d.Origin != "" || !d.Thin || d.ThinID != 1 || !d.Active || !d.Open || d.ReadOnly || d.Suspended ||
				!d.SkipActivation || !d.UsedKnown || d.UsedPercent != 25 || d.Major == 0 || d.Minor == 0 || !slices.Equal(d.Tags, []Tag{"-x", "o=host"}) {
				t.Errorf("volume is %+v", d)
			}
			if y := d.Created.Year(); y != 2026 || d.Created.Location() != time.UTC {
				t.Errorf("created %v", d.Created)
			}
			s2, _ := g.Volume("snap.2")
			if s2.Origin != "data.1" || s2.OriginUUID != d.UUID || !s2.ReadOnly || !s2.Active || s2.Open || s2.Tags[0] != "o=c1#ab" {
				t.Errorf("snapshot is %+v", s2)
			}
			s3, _ := g.Volume("snap.3")
			if s3.Active || s3.Open || s3.Suspended || s3.ReadOnly || s3.UsedKnown || s3.Major != 0 || s3.Minor != 0 || s3.ThinID == 0 {
				t.Errorf("inactive snapshot is %+v", s3)
			}
			old, _ := g.Volume("old")
			if old.Thin || !old.ReadOnly || old.Active || old.Pool != "" || old.ThinID != 0 || old.UsedKnown {
				t.Errorf("external origin is %+v", old)
			}
		})
	}
}

func TestDependents(t *testing.T) {
	for _, path := range recordings {
		g := recorded(t, path)
		for name, want := range map[Name][]Name{
			"data.1": nil, "snap.2": nil, "ext": nil, "extsnap": nil, "classic": nil, "nosuch": nil, "pool": nil,
			"plain": {"classic"}, "old": {"ext", "extsnap"},
		} {
			var got []Name
			for _, v := range g.Dependents(name) {
				got = append(got, v.Name)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: dependents of %s are %v, want %v", path, name, got, want)
			}
			v, ok := g.Volume(name)
			if ok && (removable(g, v) == nil) != (want == nil && !v.Open) {
				t.Errorf("%s: %s may be removed: %v", path, name, removable(g, v))
			}
		}
	}
}

func TestOddReportsAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "[]", `{"report":`, `{"report":[{"vg":[{"vg_name":"a"}]}]}`,
		`{"report":[{"vg":[{"vg_name":"a","vg_size":"-1","vg_free":"0","vg_extent_size":"1"}]}]}`,
		`{"report":[{"vg":[{"vg_name":"a","vg_size":"1","vg_free":"0","vg_extent_size":"1"}],"lv":[{"lv_uuid":"u","lv_name":"x","lv_size":"1g"}]}]}`,
	} {
		if g, err := parseReport([]byte(text)); err == nil {
			t.Errorf("%s gives %+v", text, g)
		}
	}
}

func TestUnknownValuesAreNotTakenForFacts(t *testing.T) {
	const text = `{"report":[{"vg":[{"vg_name":"a","vg_size":"9","vg_free":"0","vg_extent_size":"1"}],
		"lv":[{"lv_uuid":"p","lv_name":"p","lv_size":"1","lv_metadata_size":"1","lv_layout":"thin,pool","data_percent":"nan","metadata_percent":""},
		      {"lv_uuid":"v","lv_name":"v","lv_size":"1","lv_layout":"thin,sparse","lv_active":"active","data_percent":"-1","lv_device_open":"unknown","lv_time":"x"},
		      {"lv_uuid":"v","lv_name":"v","lv_size":"1","lv_layout":"thin,sparse"}],
		"seg":[{"lv_uuid":"p","chunk_size":"65536","zero":"unknown"},{"lv_uuid":"p","chunk_size":"0"}]}],"log":[{"x":"y"}],"more":{}}`
	groups, err := parseReport([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	g := groups[0]
	if p := g.Pools[0]; p.Known || p.Zero || p.Active || p.ChunkSize != 64*KiB {
		t.Errorf("pool is %+v", p)
	}
	if len(g.Volumes) != 1 {
		t.Fatalf("volumes are %+v", g.Volumes)
	}
	if v := g.Volumes[0]; v.UsedKnown || v.Open || !v.Active || !v.Created.IsZero() {
		t.Errorf("volume is %+v", v)
	}
}

func FuzzParseReport(f *testing.F) {
	for _, path := range recordings {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		groups, err := parseReport(data)
		if err != nil {
			return
		}
		for _, g := range groups { // nothing may hang or panic
			for _, v := range append(g.Volumes, g.Others...) {
				_ = g.Dependents(v.Name)
			}
		}
	})
}

func TestPoolDefaults(t *testing.T) {
	for _, c := range []struct{ pool, chunk, metadata Size }{
		{GiB, 64 * KiB, 32 * MiB},
		{100 * GiB, 64 * KiB, 200 * MiB},
		{2 * TiB, 64 * KiB, 4 * GiB},
		{4 * TiB, 64 * KiB, 8 * GiB},
		{8 * TiB, 128 * KiB, 8 * GiB},
		{100 * TiB, MiB, 12800 * MiB},
		{8 * MiB, 64 * KiB, 4 * MiB},
	} {
		chunk := DefaultChunkSize(c.pool)
		if metadata := DefaultMetadataSize(c.pool, chunk); chunk != c.chunk || metadata != c.metadata {
			t.Errorf("a pool of %s gets chunks of %s and metadata of %s, want %s and %s", c.pool, chunk, metadata, c.chunk, c.metadata)
		}
	}
}

func TestCreatePoolTakesNoMoreThanItsShare(t *testing.T) {
	g := Group{Name: "vg", Size: 8 * GiB, Free: 7 * GiB, ExtentSize: 4 * MiB}
	for _, percent := range []int{1, 50, 100} {
		c, err := CreatePool{VG: "vg", Name: "p", Percent: percent}.Complete(g)
		if err != nil {
			t.Fatal(err)
		}
		used := c.Size + 2*c.MetadataSize
		if used > g.Free*Size(percent)/100 || used < g.Free*Size(percent)/100-2*g.ExtentSize || c.Size%g.ExtentSize != 0 {
			t.Errorf("%d percent use %s: %+v", percent, used, c)
		}
	}
}

func TestRemoveSelectionPinsTheVolume(t *testing.T) {
	s := RemoveSelection(Volume{UUID: "abc-def", Tags: []Tag{"lls.s=live", "x"}})
	if !strings.HasPrefix(s, `lv_uuid=abc-def && lv_tags=["lls.s=live","x"] && `) || strings.Count(s, "!(lv_role={") != 4 {
		t.Errorf("selection is %s", s)
	}
}
