package lvm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestProfilesThatAreNotOursAreNoFallback(t *testing.T) {
	for _, name := range []string{
		"", "thin-performance", "lls-", "lls-80", "lls-80-", "lls-080-20", "lls-80-20x", "lls-80-20-", "xlls-80-20", "lls-+80-20", "lls-100-20", "lls-80-0",
		"lls-80--1", "lls-49-20", "lls- 80-20", "lls-80-20\n",
	} {
		if f := (Pool{Profile: name}).Fallback(); f != (Fallback{}) {
			t.Errorf("%q is %+v", name, f)
		}
	}
	want := Fallback{Threshold: 80, Percent: 20}
	if f := (Pool{Profile: want.Profile()}).Fallback(); f != want {
		t.Errorf("%q is %+v", want.Profile(), f)
	}
}

// The second and third were seen: from 372 to 532 MiB, and from 532 to 764, of a pool that was full.
func TestLargestStep(t *testing.T) {
	for _, c := range []struct {
		f          Fallback
		size, want Size
	}{
		{Fallback{80, 20}, 100 * MiB, 28 * MiB}, // 25 percent, in extents
		{Fallback{70, 20}, 372 * MiB, 160 * MiB},
		{Fallback{70, 20}, 532 * MiB, 232 * MiB},
		{Fallback{50, 20}, 100 * MiB, 100 * MiB},
		{Fallback{90, 50}, 100 * MiB, 52 * MiB},
		{Fallback{99, 100}, MaxSize, MaxSize},
		{Fallback{}, 100 * MiB, 0},
	} {
		if got := c.f.LargestStep(c.size, 4*MiB); got != c.want {
			t.Errorf("%+v of %s gives %s, want %s", c.f, c.size, got, c.want)
		}
	}
}

func TestProfilesAreWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	h := NewHost(nil, Options{ProfileDir: dir})
	f := Fallback{Threshold: 80, Percent: 20}
	path := filepath.Join(dir, "lls-80-20.profile")
	for _, before := range []string{"", "half a", string(f.text())} {
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// A crash may have left one.
		if err := os.WriteFile(path+".new", []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.writeProfile(f); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != string(f.text()) {
			t.Errorf("after %q it reads %q, %v", before, got, err)
		}
	}
	h = NewHost(nil, Options{ProfileDir: filepath.Join(dir, "nosuch")})
	if err := h.writeProfile(f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
}
