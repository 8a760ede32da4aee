package policy

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// size reads what these tests need: a number with T behind it.
func size(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "T"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return n << 40, nil
}

func TestTheExampleIsTheDefault(t *testing.T) {
	data, err := os.ReadFile("../lls.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data, size)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse(nil, size)
	if err != nil {
		t.Fatal(err)
	}
	if got.ClientGroups == nil {
		got.ClientGroups = want.ClientGroups
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example reads as\n%+v, an empty file as\n%+v", got, want)
	}
	// Every key it shows commented out must be one that is read.
	uncommented := strings.NewReplacer("#[", "[", "#vg", "vg", "#lv", "lv", "#loop", "loop").Replace(string(data))
	c, err := Parse([]byte(uncommented), size)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Pools) != 1 || c.Pools[0] != (Pool{Name: "main", Group: "lls", LV: "pool"}) {
		t.Errorf("pools of the example: %+v", c.Pools)
	}
}

func TestParseReportsEverythingWrongAtOnce(t *testing.T) {
	_, err := Parse([]byte(`
default_visibility = "maybe"
default_fs = "ntfs"
colour = "red"
[lxc]
paths = [{ path = "relative" }, { path = "/a" }, { path = "/b" }]
client_groups = [0]
[pools.one]
vg = "-rf"
lv = "p"
[pools.UP]
vg = "g"
lv = "p"
loop = "x"
[limits]
size = "lots"
volumes = -1
data_percent = 101
`), size)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"default_visibility", "default_fs", "colour: no such key", `"relative"`, `the label ""`, "client_groups",
		"pools.one.vg", "pools.UP: a pool's name", "pools.UP.loop", "limits.size", "limits: a number", "limits.data_percent",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
}

func TestParseNamesTheLineOfASyntaxError(t *testing.T) {
	_, err := Parse([]byte("default_fs = \"xfs\"\nx = = 1\n"), size)
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func TestAdmitRefusesJustPastEachLimit(t *testing.T) {
	l := Limits{Volumes: 3, Snapshots: 2, Size: 100, DataPercent: 95, MetadataPercent: 90}
	tests := []struct {
		name  string
		use   Use
		ask   Ask
		limit string
	}{
		{"the last volume", Use{Volumes: 2}, Ask{Volume: true}, ""},
		{"one volume too many", Use{Volumes: 3}, Ask{Volume: true}, "volumes"},
		{"the last snapshot", Use{Volumes: 1, Snapshots: 1}, Ask{Volume: true, Snapshot: true}, ""},
		{"one snapshot too many", Use{Volumes: 2, Snapshots: 2}, Ask{Volume: true, Snapshot: true}, "snapshots"},
		{"growth at full numbers", Use{Volumes: 3, Snapshots: 2, Size: 50}, Ask{Size: 50}, ""},
		{"one byte too many", Use{Size: 50}, Ask{Size: 51}, "size"},
		{"no overflow", Use{Size: 50}, Ask{Size: 1<<63 - 1}, "size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := l.Admit(tt.use, tt.ask)
			if got := limitOf(r); got != tt.limit {
				t.Errorf("refused by %q, want %q", got, tt.limit)
			}
		})
	}
	if r := (Limits{}).Admit(Use{Volumes: 1e6, Size: 1 << 60}, Ask{Volume: true, Snapshot: true, Size: 1 << 40}); r != nil {
		t.Errorf("no limits refuse: %v", r)
	}
}

func TestAdmitPoolWatchesDataAndMetadataApart(t *testing.T) {
	l := Limits{DataPercent: 95, MetadataPercent: 90}
	tests := []struct {
		fill  Fill
		limit string
	}{
		{Fill{94.99, 89.99, true}, ""},
		{Fill{95, 0, true}, "data_percent"},
		{Fill{0, 90, true}, "metadata_percent"},
		{Fill{100, 100, false}, ""},
	}
	for _, tt := range tests {
		if got := limitOf(l.AdmitPool(tt.fill)); got != tt.limit {
			t.Errorf("%+v: refused by %q, want %q", tt.fill, got, tt.limit)
		}
	}
}

func limitOf(r *Refusal) string {
	if r == nil {
		return ""
	}
	return r.Limit
}
