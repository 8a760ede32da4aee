package catalog

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lls/lvm"
)

// idLen is the length of an id: 35 bits, checked for being free before use.
const idLen = 7

// ID is what a volume is called for good: the last part of its LV name, NAME.ID.
type ID string

// NewID draws an id of lower-case letters and digits 2-7. It never fails: crypto/rand aborts the process instead.
func NewID() ID { return ID(strings.ToLower(rand.Text()[:idLen])) }

// State is where a volume is in its life.
type State string

// The states. Everything but Making was finished in one LVM command.
const (
	Making State = "new" // being made in several steps; start-up takes it away
	Live   State = "live"
	Trash  State = "trash"
)

// Record is a volume in LLS's words. What is not in LV comes from, and goes to, its tags.
type Record struct {
	ID      ID
	Name    Name
	Owner   Owner
	State   State
	Deleted time.Time // when it went to the trash
	Visible bool
	Access  string // rw, ro or none: for others, when it is visible
	Origin  ID     // of the volume it is a snapshot of, which may be gone
	FS      string
	Growing bool      // its file system is still to be grown to the volume's size
	Raw     bool      // a container could write to its device, or to that of the volume it came from
	Lease   time.Time // until which it is kept, whatever the policy says; zero: no lease. Whole seconds
	Forever bool      // a lease without an end
	GrowTo  int64     // bytes to which it grows by itself; 0: it does not
	NextID  ID        // of the volume that a refresh put in its place
	LV      lvm.Volume
}

// The tags. The prefix says that a volume is ours; the rest is kept to a few bytes, because every change of a volume group
// writes the tags of all its volumes.
const (
	tagName    = "lls.n="
	tagOwner   = "lls.o=" // escaped
	tagState   = "lls.s=" // new, live, or trash:UNIXTIME
	tagVisible = "lls.v=" // h or v
	tagAccess  = "lls.a=" // rw, ro or none
	tagOrigin  = "lls.p=" // the origin's id
	tagFS      = "lls.f=" // ext4 or xfs
	tagGrowing = "lls.g"  // present while its file system is being grown
	tagLease   = "lls.l=" // never, or UNIXTIME
	tagGrowTo  = "lls.u=" // bytes
	tagNext    = "lls.x=" // the id of what a refresh put in its place
	tagRaw     = "lls.r"  // present from the first raw access that allowed writing, for good
	prefix     = "lls."
)

// forever is the value of a lease without an end.
const forever = "never"

// PoolTag is the tag of a thin pool that LLS may make volumes in.
func PoolTag(pool string) lvm.Tag { return lvm.Tag("lls.pool=" + pool) }

// Managed tells whether a volume is LLS's: whether it carries any tag of ours. Nothing else may ever be changed.
func Managed(v lvm.Volume) bool {
	return slices.ContainsFunc(v.Tags, func(t lvm.Tag) bool { return strings.HasPrefix(string(t), prefix) })
}

// LVName is the name of the record's logical volume.
func (r *Record) LVName() lvm.Name { return lvm.Name(string(r.Name) + "." + string(r.ID)) }

// Tags writes the record as tags, in a fixed order.
func (r *Record) Tags() []lvm.Tag {
	state := string(r.State)
	if r.State == Trash {
		state += ":" + strconv.FormatInt(r.Deleted.Unix(), 10)
	}
	visible := "h"
	if r.Visible {
		visible = "v"
	}
	tags := []lvm.Tag{
		lvm.Tag(tagName + string(r.Name)), lvm.Tag(tagOwner + escape(r.Owner.String())), lvm.Tag(tagState + state),
		lvm.Tag(tagVisible + visible), lvm.Tag(tagAccess + r.Access),
	}
	if r.Origin != "" {
		tags = append(tags, lvm.Tag(tagOrigin+string(r.Origin)))
	}
	if r.FS != "" {
		tags = append(tags, lvm.Tag(tagFS+r.FS))
	}
	if r.Growing {
		tags = append(tags, tagGrowing)
	}
	if r.Raw {
		tags = append(tags, tagRaw)
	}
	switch {
	case r.Forever:
		tags = append(tags, tagLease+forever)
	case !r.Lease.IsZero():
		tags = append(tags, lvm.Tag(tagLease+strconv.FormatInt(r.Lease.Unix(), 10)))
	}
	if r.GrowTo > 0 {
		tags = append(tags, lvm.Tag(tagGrowTo+strconv.FormatInt(r.GrowTo, 10)))
	}
	if r.NextID != "" {
		tags = append(tags, lvm.Tag(tagNext+string(r.NextID)))
	}
	return tags
}

// Changes are the tags to add to and to take from r's volume so that it becomes to.
func (r *Record) Changes(to *Record) (add, del []lvm.Tag) {
	old, now := r.Tags(), to.Tags()
	for _, t := range now {
		if !slices.Contains(old, t) {
			add = append(add, t)
		}
	}
	for _, t := range old {
		if !slices.Contains(now, t) {
			del = append(del, t)
		}
	}
	return add, del
}

// FromVolume reads a volume's tags. The error says which are missing or odd: such a volume is nobody's but the sysadmin's.
func FromVolume(v lvm.Volume) (*Record, error) {
	r := &Record{LV: v}
	at := strings.LastIndexByte(string(v.Name), '.')
	if at < 1 {
		return nil, fmt.Errorf("cannot read the tags of %s/%s: its name is not NAME.ID", v.VG, v.Name)
	}
	r.ID = ID(v.Name[at+1:])
	seen := map[string]bool{}
	for _, t := range v.Tags {
		if !strings.HasPrefix(string(t), prefix) {
			continue
		}
		key, err := r.read(string(t))
		if err == nil && seen[key] {
			err = fmt.Errorf("tag %s stands there twice", key)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the tags of %s/%s: %w", v.VG, v.Name, err)
		}
		seen[key] = true
	}
	for _, key := range []string{tagName, tagOwner, tagState, tagVisible, tagAccess} {
		if !seen[key] {
			return nil, fmt.Errorf("cannot read the tags of %s/%s: %s is missing", v.VG, v.Name, key)
		}
	}
	return r, nil
}

// read takes one tag in and returns its key.
func (r *Record) read(tag string) (key string, err error) {
	key, value, found := strings.Cut(tag, "=")
	if found {
		key += "="
	}
	switch key {
	case tagName:
		r.Name, err = ParseName(value)
	case tagOwner:
		var plain string
		if plain, err = unescape(value); err == nil {
			r.Owner, err = ParseOwner(plain)
		}
	case tagState:
		err = r.readState(value)
	case tagVisible:
		if r.Visible = value == "v"; value != "v" && value != "h" {
			err = fmt.Errorf("%q is no visibility", value)
		}
	case tagAccess:
		if r.Access = value; value != "rw" && value != "ro" && value != "none" {
			err = fmt.Errorf("%q is no access", value)
		}
	case tagOrigin:
		r.Origin = ID(value)
	case tagFS:
		r.FS = value
	case tagGrowing:
		r.Growing = true
	case tagRaw:
		r.Raw = true
	case tagLease:
		err = r.readLease(value)
	case tagGrowTo:
		if r.GrowTo, err = strconv.ParseInt(value, 10, 64); err != nil || r.GrowTo <= 0 {
			err = fmt.Errorf("%q is no size in bytes", value)
		}
	case tagNext:
		r.NextID = ID(value)
	}
	return key, err // a key of a later version is left alone
}

func (r *Record) readState(value string) error {
	name, when, found := strings.Cut(value, ":")
	r.State = State(name)
	switch r.State {
	case Making, Live:
		if !found {
			return nil
		}
	case Trash:
		sec, err := strconv.ParseInt(when, 10, 64)
		if err == nil && found {
			r.Deleted = time.Unix(sec, 0)
			return nil
		}
	}
	return fmt.Errorf("%q is no state", value)
}

func (r *Record) readLease(value string) error {
	if r.Forever = value == forever; r.Forever {
		return nil
	}
	sec, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no lease", value)
	}
	r.Lease = time.Unix(sec, 0)
	return nil
}

// escape makes a tag value of any bytes: what LVM's tags do not take, and the escape itself, becomes +XX in hexadecimal.
// (LVM allows A-Za-z0-9._-+/=!:&# in tags; there is no % to use.)
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if alnum(c) || strings.IndexByte("._-:#", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", fmt.Errorf("%q ends in the middle of an escape", s)
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q has an escape that is none", s)
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}
