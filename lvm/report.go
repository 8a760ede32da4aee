package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a report asks for: "lvm fullreport" gives all of it for each group under
// one lock, and groups without volumes too, which lvs would leave out. The
// reports that are not needed are cut down to one cheap field.
var reportArgs = []string{
	"--reportformat", "json", "--units", "b", "--nosuffix",
	"--configreport", "vg", "-o", "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size",
	"--configreport", "lv", "-o", "lv_uuid,lv_name,lv_size,lv_metadata_size,lv_tags,lv_time,lv_layout,lv_role," +
		"pool_lv,origin,origin_uuid,lv_when_full,lv_attr,lv_skip_activation,lv_active,lv_suspended," +
		"lv_device_open,lv_kernel_major,lv_kernel_minor,data_percent,metadata_percent,lv_health_status,lv_check_needed,lv_profile",
	"--configreport", "seg", "-o", "lv_uuid,chunk_size,zero,thin_id",
	"--configreport", "pv", "-o", "pv_name",
	"--configreport", "pvseg", "-o", "pvseg_start",
}

// In the JSON of all supported versions every value is a string.
type row map[string]string

type document struct {
	Report []struct {
		VG  []row `json:"vg"`
		LV  []row `json:"lv"`
		Seg []row `json:"seg"`
	} `json:"report"`
}

func (h *Host) report(ctx context.Context, vgs []VG) ([]Group, error) {
	args := reportArgs
	for _, vg := range vgs {
		if _, err := ParseVG(string(vg)); err != nil {
			return nil, err
		}
	}
	if len(vgs) > 0 {
		args = append(slices.Clone(args), "--")
		for _, vg := range vgs {
			args = append(args, string(vg))
		}
	}
	out, err := h.read(ctx, "fullreport", args...)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && len(vgs) > 0 {
		return nil, h.missing(ctx, vgs, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read volume groups: %w", err)
	}
	groups, err := parseReport(out.Stdout)
	if err != nil {
		return nil, fmt.Errorf("cannot read volume groups: %w", err)
	}
	for _, vg := range vgs {
		if !slices.ContainsFunc(groups, func(g Group) bool { return g.Name == vg }) {
			return nil, fmt.Errorf("cannot read volume group %s: %w", vg, ErrNoGroup)
		}
	}
	return groups, nil
}

// missing finds out whether a report failed because a group does not exist: by
// a list of all that do, since the exit status does not say.
func (h *Host) missing(ctx context.Context, vgs []VG, cause error) error {
	out, err := h.read(ctx, "vgs", "--reportformat", "json", "-o", "vg_name")
	if err != nil {
		return fmt.Errorf("cannot read volume groups: %w", errors.Join(cause, err))
	}
	var doc document
	if err := json.Unmarshal(out.Stdout, &doc); err != nil {
		return fmt.Errorf("cannot read volume groups: %w", errors.Join(cause, err))
	}
	exist := map[string]bool{}
	for _, part := range doc.Report {
		for _, g := range part.VG {
			exist[g["vg_name"]] = true
		}
	}
	for _, vg := range vgs {
		if !exist[string(vg)] {
			return fmt.Errorf("cannot read volume group %s: %w: %w", vg, ErrNoGroup, cause)
		}
	}
	return fmt.Errorf("cannot read volume groups: %w", cause)
}

// parseReport reads what fullreport printed. Newer versions add a "log".
func parseReport(data []byte) ([]Group, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("report is not what it should be: %w", err)
	}
	var groups []Group
	for _, part := range doc.Report {
		segments := map[string]row{} // the first of each volume
		for _, s := range part.Seg {
			if _, ok := segments[s["lv_uuid"]]; !ok {
				segments[s["lv_uuid"]] = s
			}
		}
		for _, v := range part.VG {
			g, err := parseGroup(v, part.LV, segments)
			if err != nil {
				return nil, fmt.Errorf("report is not what it should be: %w", err)
			}
			groups = append(groups, g)
		}
	}
	return groups, nil
}

func parseGroup(vg row, lvs []row, segments map[string]row) (Group, error) {
	r := &fields{row: vg}
	g := Group{
		Name:       VG(vg["vg_name"]),
		UUID:       vg["vg_uuid"],
		Size:       r.size("vg_size"),
		Free:       r.size("vg_free"),
		ExtentSize: r.size("vg_extent_size"),
	}
	seen := map[string]bool{}
	for _, lv := range lvs {
		if seen[lv["lv_uuid"]] || lv["lv_uuid"] == "" {
			continue
		}
		seen[lv["lv_uuid"]] = true
		f := &fields{row: lv}
		layout := list(lv["lv_layout"])
		switch thin := slices.Contains(layout, "thin"); {
		case thin && slices.Contains(layout, "pool"):
			g.Pools = append(g.Pools, f.pool(g.Name, segments[lv["lv_uuid"]]))
		case thin:
			g.Volumes = append(g.Volumes, f.volume(g.Name, segments[lv["lv_uuid"]]))
		default:
			g.Others = append(g.Others, f.volume(g.Name, segments[lv["lv_uuid"]]))
		}
		r.err = errors.Join(r.err, f.err)
	}
	return g, r.err
}

// fields reads values of a row and remembers what was wrong.
type fields struct {
	row row
	err error
}

func (f *fields) pool(vg VG, segment row) Pool {
	s := &fields{row: segment}
	p := Pool{
		VG:           vg,
		Name:         Name(f.row["lv_name"]),
		UUID:         f.row["lv_uuid"],
		Size:         f.size("lv_size"),
		MetadataSize: f.size("lv_metadata_size"),
		ChunkSize:    s.size("chunk_size"),
		Zero:         s.flag("zero"),
		WhenFull:     f.row["lv_when_full"],
		Tags:         tags(f.row["lv_tags"]),
		Active:       f.flag("lv_active"),
		CheckNeeded:  f.flag("lv_check_needed"),
		Health:       f.row["lv_health_status"],
		Profile:      f.row["lv_profile"],
	}
	data, dataKnown := f.percent("data_percent")
	metadata, metadataKnown := f.percent("metadata_percent")
	p.DataPercent, p.MetadataPercent, p.Known = data, metadata, dataKnown && metadataKnown
	f.err = errors.Join(f.err, s.err)
	return p
}

func (f *fields) volume(vg VG, segment row) Volume {
	layout := list(f.row["lv_layout"])
	v := Volume{
		VG:             vg,
		Name:           Name(f.row["lv_name"]),
		UUID:           f.row["lv_uuid"],
		Size:           f.size("lv_size"),
		Pool:           Name(f.row["pool_lv"]),
		Origin:         Name(strings.Trim(f.row["origin"], "[]")),
		OriginUUID:     f.row["origin_uuid"],
		Tags:           tags(f.row["lv_tags"]),
		Active:         f.flag("lv_active"),
		Open:           f.flag("lv_device_open"),
		ReadOnly:       readOnly(f.row["lv_attr"]),
		Suspended:      f.flag("lv_suspended"),
		SkipActivation: f.flag("lv_skip_activation"),
		Thin:           slices.Contains(layout, "thin"),
		Layout:         layout,
		Role:           list(f.row["lv_role"]),
	}
	if v.Active {
		v.Major, v.Minor = f.number("lv_kernel_major"), f.number("lv_kernel_minor")
	}
	if v.Thin {
		v.UsedPercent, v.UsedKnown = f.percent("data_percent")
		v.ThinID = int((&fields{row: segment}).number("thin_id"))
	}
	if s, err := strconv.ParseInt(f.row["lv_time"], 10, 64); err == nil {
		v.Created = time.Unix(s, 0).UTC()
	}
	return v
}

func (f *fields) size(key string) Size {
	n, err := strconv.ParseInt(f.row[key], 10, 64)
	if err != nil || n < 0 {
		f.err = errors.Join(f.err, fmt.Errorf("%s of %s%s is %q", key, f.row["vg_name"], f.row["lv_name"], f.row[key]))
	}
	return Size(n)
}

// number is 0 where LVM does not know one.
func (f *fields) number(key string) uint32 {
	n, err := strconv.ParseUint(f.row[key], 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func (f *fields) percent(key string) (float64, bool) {
	p, err := strconv.ParseFloat(f.row[key], 64)
	// NaN compares false, so it is unknown, too.
	return p, err == nil && p >= 0 && p <= 100
}

// flag reads a yes or no, which is a word or empty, or with LVM's
// report/binary_values_as_numeric 1, 0, or -1 for unknown.
func (f *fields) flag(key string) bool {
	switch f.row[key] {
	case "", "0", "-1", "unknown":
		return false
	}
	return true
}

// readOnly looks at lv_attr, since lv_permissions is unknown while inactive. Its
// second character is "w", "r", or "R" for a writable volume that was activated
// read-only (lvs(8)).
func readOnly(attr string) bool {
	return len(attr) > 1 && (attr[1] == 'r' || attr[1] == 'R')
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func tags(s string) []Tag {
	var all []Tag
	for _, t := range list(s) {
		all = append(all, Tag(t))
	}
	return all
}
