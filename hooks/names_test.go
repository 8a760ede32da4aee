package hooks

import (
	"slices"
	"testing"
)

func TestOnlyALineThatCanNameAVolumeByItsLabelCounts(t *testing.T) {
	for text, want := range map[string]bool{
		"LABEL=UEFI /boot/efi vfat umask=0077 0 1": false,
		"UUID=a-b none swap sw 0 0":                false,
		"LABEL=home none swap sw 0 0":              false,
		"UUID=a-b / ext4 defaults 0 1":             false,
		"UUID=a-b /. ext4 defaults 0 1":            false,
		"LABEL=x /proc/x ext4 defaults 0 1":        false,
		"PARTUUID=a-b /data ext4 defaults 0 1":     false,
		"LABEL= /data ext4 defaults 0 0":           false,
		"#LABEL=data /data ext4 defaults 0 0":      false,
		"LABEL=data /data":                         false,
		"LABEL=data /data ext4":                    true,
		"LABEL=\"my data\" /data ext4":             false, // more fields than it seems
		"UUID=a-b /data auto defaults 0 0":         true,
		"UUID=a-b /data vfat,xfs defaults 0 0":     false,
		"UUID=a-b /data ext4,xfs noauto 0 0":       true,
		"LABEL=data /data lls noauto 0 0":          true,
	} {
		if _, tagged := Parse([]byte("\n" + text + "\n")).Names(); slices.Equal(tagged, []int{2}) != want || len(tagged) > 1 {
			t.Errorf("%q: lines %v, want %v", text, tagged, want)
		}
	}
}

func TestNamesAreThoseOfAllLines(t *testing.T) {
	names, tagged := Parse([]byte("lls:a /a lls 0 0\n/dev/mf/c2/b /b ext4\n/dev/sda1 /c ext4\nlls:d none swap\n")).Names()
	if !slices.Equal(names, []string{"a", "c2/b", "d"}) || len(tagged) != 0 {
		t.Errorf("%q, lines %v", names, tagged)
	}
}
