package lvm

import (
	"errors"
	"fmt"
	"strings"
)

// ErrBadName is wrapped by every refusal of a name or tag.
var ErrBadName = errors.New("not a valid name")

// Limits of names, in bytes.
const (
	// MaxName is NAME_LEN of lvm2 (lib/metadata/metadata-exported.h) without
	// the closing NUL.
	MaxName = 127
	// MaxTag is ours. LVM has no limit, but every tag of every volume is in the
	// metadata text that each change writes anew.
	MaxTag = 128
	// DM_NAME_LEN of the kernel (include/uapi/linux/dm-ioctl.h) without the NUL.
	maxDMName = 127
	// The longest layer that LVM appends to the device-mapper name: "-tpool".
	dmLayer = 6
)

// Name is the name of a logical volume within its group.
type Name string

// VG is the name of a volume group.
type VG string

// Tag is an LVM tag without its "@".
type Tag string

// Source of the lists: lvm2 lib/misc/lvm-string.c, and lvm(8), "VALID NAMES".
var (
	reservedPrefixes = []string{"pvmove", "snapshot"}
	reservedParts    = []string{
		"_cdata", "_cmeta", "_corig", "_cvol", "_iorig", "_imeta", "_mimage", "_mlog", "_pmspare",
		"_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
	}
)

// ParseName checks the name of a logical volume by LVM's own rules.
func ParseName(s string) (Name, error) {
	if err := checkName(s); err != nil {
		return "", fmt.Errorf("cannot use volume name %q: %w", s, err)
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(s, p) {
			return "", fmt.Errorf("cannot use volume name %q: names starting with %s are LVM's own: %w", s, p, ErrBadName)
		}
	}
	for _, p := range reservedParts {
		if strings.Contains(s, p) {
			return "", fmt.Errorf("cannot use volume name %q: names containing %s are LVM's own: %w", s, p, ErrBadName)
		}
	}
	return Name(s), nil
}

// ParseVG checks the name of a volume group by LVM's own rules.
func ParseVG(s string) (VG, error) {
	if err := checkName(s); err != nil {
		return "", fmt.Errorf("cannot use volume group name %q: %w", s, err)
	}
	return VG(s), nil
}

// ParseTag checks a tag: 1 to MaxTag bytes of A-Za-z0-9._-+/=!:&# (validate_tag
// in lvm2 lib/misc/lvm-string.c).
func ParseTag(s string) (Tag, error) {
	if s == "" || len(s) > MaxTag {
		return "", fmt.Errorf("cannot use tag %q: 1 to %d characters are allowed: %w", s, MaxTag, ErrBadName)
	}
	for i := range len(s) {
		if !alnum(s[i]) && strings.IndexByte("._-+/=!:&#", s[i]) < 0 {
			return "", fmt.Errorf("cannot use tag %q: character %q: %w", s, s[i], ErrBadName)
		}
	}
	return Tag(s), nil
}

func checkName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("empty: %w", ErrBadName)
	case len(s) > MaxName:
		return fmt.Errorf("longer than %d characters: %w", MaxName, ErrBadName)
	case s[0] == '-':
		return fmt.Errorf("starts with a hyphen: %w", ErrBadName)
	case s == "." || s == "..":
		return ErrBadName
	}
	for i := range len(s) {
		if !alnum(s[i]) && strings.IndexByte("._-+", s[i]) < 0 {
			return fmt.Errorf("character %q: %w", s[i], ErrBadName)
		}
	}
	return nil
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Device is the path of an active volume: a link that udev makes.
func Device(vg VG, name Name) string { return "/dev/" + string(vg) + "/" + string(name) }

// DMName is the device-mapper name of a volume: hyphens are doubled, and a
// single one separates group and volume.
func DMName(vg VG, name Name) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return double(string(vg)) + "-" + double(string(name))
}

// CheckPair says whether a new volume of this name fits into the group: their
// common device-mapper name has a limit, too.
func CheckPair(vg VG, name Name) error {
	if _, err := ParseVG(string(vg)); err != nil {
		return err
	}
	if _, err := ParseName(string(name)); err != nil {
		return err
	}
	if n := len(DMName(vg, name)) + dmLayer; n > maxDMName {
		return fmt.Errorf("cannot use volume name %q in volume group %s: %d characters too long: %w", name, vg, n-maxDMName, ErrBadName)
	}
	return nil
}
