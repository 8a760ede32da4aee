package lvm

import (
	"errors"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, s := range []string{"a", "data.x7", "A-b_c+d.e", "_x", ".hidden", "...", "a-", "tdata", "lvol0", strings.Repeat("n", 127)} {
		if got, err := ParseName(s); err != nil || string(got) != s {
			t.Errorf("ParseName(%q) is %q, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "-", "-a", "--yes", ".", "..", "a b", "a/b", "vg/a", "a\n", "ä", "a,b", "@a", "a=b", "a:b", "a%s", "a\x00", "snapshot", "snapshot7", "pvmove",
		"pvmove0", "x_tdata", "x_tmeta0", "_pmspare", "a_mlog_b", "a_rimage_0", "a_cdata", "a_vorigin", "a_corig", strings.Repeat("n", 128),
	} {
		if got, err := ParseName(s); !errors.Is(err, ErrBadName) {
			t.Errorf("ParseName(%q) is %q, %v, want a refusal", s, got, err)
		}
	}
}

func TestParseVG(t *testing.T) {
	for _, s := range []string{"vg", "vg-0", "snapshot", "x_tdata"} {
		if _, err := ParseVG(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "..", ".", "-vg", "a/b", "a b"} {
		if _, err := ParseVG(s); !errors.Is(err, ErrBadName) {
			t.Errorf("ParseVG(%q): %v", s, err)
		}
	}
}

func TestParseTag(t *testing.T) {
	for _, s := range []string{"a", "-x", "a=b", "A.Z_0-9+/!:&#", strings.Repeat("t", 128)} {
		if got, err := ParseTag(s); err != nil || string(got) != s {
			t.Errorf("ParseTag(%q) is %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", " ", "a b", "a,b", "@a", "a%20", "ä", "a\n", "a'", "{a}", "~", strings.Repeat("t", 129)} {
		if got, err := ParseTag(s); !errors.Is(err, ErrBadName) {
			t.Errorf("ParseTag(%q) is %q, %v, want a refusal", s, got, err)
		}
	}
}

func TestDeviceNames(t *testing.T) {
	if got := DMName("vg-0", "a-b.c"); got != "vg--0-a--b.c" {
		t.Errorf("device-mapper name is %s", got)
	}
	if got := Device("vg-0", "a-b.c"); got != "/dev/vg-0/a-b.c" {
		t.Errorf("path is %s", got)
	}
}

func TestCheckPair(t *testing.T) {
	// 118 + "-" + "vg" leave room for "-tpool" in 127.
	if err := CheckPair("vg", Name(strings.Repeat("n", 118))); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		vg   VG
		name Name
	}{{"vg", Name(strings.Repeat("n", 119))}, {"vg", Name("n" + strings.Repeat("-", 59))}, {"v/g", "n"}, {"vg", "snapshot1"}} {
		if err := CheckPair(c.vg, c.name); !errors.Is(err, ErrBadName) {
			t.Errorf("%s/%s: %v", c.vg, c.name, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a-b.c", "vg-0")
	f.Fuzz(func(t *testing.T, name, vg string) {
		n, err1 := ParseName(name)
		v, err2 := ParseVG(vg)
		_, _ = ParseTag(name)
		if err1 != nil || err2 != nil {
			return
		}
		// No two volumes share a device-mapper name: it can be taken apart.
		gotVG, gotName, ok := splitDMName(DMName(v, n))
		if !ok || gotVG != vg || gotName != name {
			t.Fatalf("%q and %q become %q", vg, name, DMName(v, n))
		}
	})
}

// splitDMName takes a name apart at its single hyphen.
func splitDMName(s string) (vg, name string, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '-' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '-' {
			i++
			continue
		}
		single := func(s string) string { return strings.ReplaceAll(s, "--", "-") }
		return single(s[:i]), single(s[i+1:]), true
	}
	return "", "", false
}
