package thin

import (
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"lls/lvm"
)

// Of the same pool: a with one block of its own, s1 with five, s2 with none, and empty.
const (
	// thin-provisioning-tools 0.9.0
	dumpOld = `<superblock uuid="" time="2" transaction="4" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="1" mapped_blocks="320" transaction="0" creation_time="0" snap_time="2">
    <range_mapping origin_begin="0" data_begin="0" length="31" time="0"/>
    <single_mapping origin_block="31" data_block="325" time="2"/>
    <range_mapping origin_begin="32" data_begin="32" length="288" time="0"/>
  </device>
  <device dev_id="2" mapped_blocks="0" transaction="1" creation_time="0" snap_time="0">
  </device>
  <device dev_id="3" mapped_blocks="320" transaction="2" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="3" time="0"/>
    <range_mapping origin_begin="3" data_begin="320" length="5" time="2"/>
    <range_mapping origin_begin="8" data_begin="8" length="312" time="0"/>
  </device>
  <device dev_id="4" mapped_blocks="320" transaction="3" creation_time="2" snap_time="2">
    <range_mapping origin_begin="0" data_begin="0" length="320" time="0"/>
  </device>
</superblock>
`
	// 1.1.0
	dumpNew = `<superblock uuid="" time="2" transaction="4" version="2" data_block_size="128" nr_data_blocks="0">
  <def name="24">
    <range_mapping origin_begin="126" data_begin="126" length="194" time="0"/>
  </def>
  <device dev_id="1" mapped_blocks="320" transaction="0" creation_time="0" snap_time="2">
    <range_mapping origin_begin="0" data_begin="0" length="31" time="0"/>
    <single_mapping origin_block="31" data_block="325" time="2"/>
    <range_mapping origin_begin="32" data_begin="32" length="94" time="0"/>
    <ref name="24"/>
  </device>
  <device dev_id="2" mapped_blocks="0" transaction="1" creation_time="0" snap_time="0">
  </device>
  <device dev_id="3" mapped_blocks="320" transaction="2" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="3" time="0"/>
    <range_mapping origin_begin="3" data_begin="320" length="5" time="2"/>
    <range_mapping origin_begin="8" data_begin="8" length="118" time="0"/>
    <ref name="24"/>
  </device>
  <device dev_id="4" mapped_blocks="320" transaction="3" creation_time="2" snap_time="2">
    <range_mapping origin_begin="0" data_begin="0" length="126" time="0"/>
    <ref name="24"/>
  </device>
</superblock>`
)

func parse(text string, owner func(int) string) (Usage, error) {
	t := newTally(owner)
	if err := (&parser{tally: t, blocks: 8192}).read(strings.NewReader(text)); err != nil {
		return Usage{}, err
	}
	return t.usage()
}

func each(owners map[int]string) func(int) string { return func(id int) string { return owners[id] } }

func TestWhatDeletingWouldFree(t *testing.T) {
	const chunk = 64 * lvm.KiB
	volumes := map[int]Volume{1: {320 * chunk, 1 * chunk, 1 * chunk, 2}, 2: {}, 3: {320 * chunk, 5 * chunk, 5 * chunk, 1}, 4: {320 * chunk, 0, 0, 2}}
	for _, dump := range []string{dumpOld, dumpNew} {
		for _, c := range []struct {
			owners map[int]string
			want   map[string]lvm.Size
		}{
			{map[int]string{1: "a", 2: "a", 3: "a", 4: "a"}, map[string]lvm.Size{"a": 326 * chunk}},
			{map[int]string{1: "a", 2: "b", 3: "c", 4: "d"}, map[string]lvm.Size{"a": chunk, "b": 0, "c": 5 * chunk, "d": 0}},
			// 3 and 4 share what 1 maps, too, but for the block that 1 has in its place.
			{map[int]string{1: "host", 2: "host", 3: "a", 4: "a"}, map[string]lvm.Size{"host": chunk, "a": 6 * chunk}},
			// and 1 and 4 what 3 does not.
			{map[int]string{1: "a", 2: "b", 3: "b", 4: "a"}, map[string]lvm.Size{"a": 6 * chunk, "b": 5 * chunk}},
			{nil, map[string]lvm.Size{"": 326 * chunk}},
		} {
			u, err := parse(dump, each(c.owners))
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(u.Owners, c.want) || !maps.Equal(u.Volumes, volumes) || u.Chunk != chunk || u.Time != 2 {
				t.Errorf("%v: %+v, want %v and %v", c.owners, u, c.want, volumes)
			}
		}
	}
}

func TestDumpsThatAreNotWholeOrNotUnderstoodAreRefused(t *testing.T) {
	const head = `<superblock time="0" data_block_size="128">` + "\n"
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":                  {"", io.ErrUnexpectedEOF},
		"no snapshot":              {"no current metadata snap\n", errDump},
		"cut":                      {dumpOld[:len(dumpOld)-20], errDump},
		"cut at a line":            {strings.TrimSuffix(dumpOld, "</superblock>\n"), io.ErrUnexpectedEOF},
		"more after the end":       {dumpOld + dumpOld, errDump},
		"no block size":            {"<superblock>\n</superblock>\n", errDump},
		"block size 0":             {`<superblock time="0" data_block_size="0">`, errDump},
		"block size too large":     {`<superblock time="0" data_block_size="9999999999">`, errDump},
		"mapping outside":          {head + `<single_mapping origin_block="0" data_block="1" time="0"/>`, errDump},
		"device in device":         {head + "<device dev_id=\"1\" snap_time=\"0\">\n<device dev_id=\"2\" snap_time=\"0\">", errDump},
		"end of another":           {head + "<device dev_id=\"1\" snap_time=\"0\">\n</def>", errDump},
		"superblock ends too soon": {head + "<device dev_id=\"1\" snap_time=\"0\">\n</superblock>", errDump},
		"unknown element":          {head + "<device dev_id=\"1\" snap_time=\"0\">\n<mapping/>", errDump},
		"unknown reference":        {head + "<device dev_id=\"1\" snap_time=\"0\">\n<ref name=\"7\"/>", errDump},
		"reference to itself":      {head + "<def name=\"7\">\n<ref name=\"7\"/>", errDump},
		"defined twice":            {head + "<def name=\"7\">\n</def>\n<def name=\"7\">", errDump},
		"volume twice":             {head + "<device dev_id=\"1\" snap_time=\"0\">\n</device>\n<device dev_id=\"1\" snap_time=\"0\">\n</device>\n</superblock>", errDump},
		"thin id too large":        {head + `<device dev_id="16777216" snap_time="0">`, errDump},
		"beyond the pool":          {head + "<device dev_id=\"1\" snap_time=\"0\">\n<range_mapping origin_begin=\"0\" data_begin=\"8190\" length=\"3\" time=\"0\"/>", errDump},
		"no time of the pool":      {`<superblock data_block_size="128">`, errDump},
		"no time of a volume":      {head + "<device dev_id=\"1\">", errDump},
		"no time of a mapping":     {head + "<device dev_id=\"1\" snap_time=\"0\">\n<single_mapping data_block=\"1\"/>", errDump},
		"a time too late":          {head + "<device dev_id=\"1\" snap_time=\"4294967296\">", errDump},
		"beyond all":               {head + "<device dev_id=\"1\" snap_time=\"0\">\n<range_mapping data_begin=\"1\" length=\"9223372036854775807\" time=\"0\"/>", errDump},
		"empty range":              {head + "<device dev_id=\"1\" snap_time=\"0\">\n<range_mapping data_begin=\"1\" length=\"0\" time=\"0\"/>", errDump},
		"negative":                 {head + "<device dev_id=\"1\" snap_time=\"0\">\n<single_mapping data_block=\"-1\" time=\"0\"/>", errDump},
	} {
		if u, err := parse(c.text, each(nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
	if _, err := parse("<superblock "+strings.Repeat("x", maxLine), each(nil)); err == nil {
		t.Error("an endless line was read")
	}
}

func TestDefinitionsMayReferToOthers(t *testing.T) {
	u, err := parse(`<superblock time="0" data_block_size="128">
<def name="1">
<range_mapping data_begin="0" length="10" time="0"/>
</def>
<def name="2">
<ref name="1"/>
<single_mapping data_block="20" time="1"/>
</def>
<device dev_id="1" snap_time="0">
<ref name="2"/>
</device>
<device dev_id="2" snap_time="0"/>
<device dev_id="3" snap_time="0">
<ref name="1"/>
</device>
</superblock>`, each(map[int]string{1: "a", 3: "b"}))
	if err != nil || u.Volumes[1].Mapped != 11*64*lvm.KiB || u.Owners["a"] != 64*lvm.KiB || u.Owners["b"] != 0 || len(u.Volumes) != 3 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestStatus(t *testing.T) {
	for line, want := range map[string]state{
		"0 1048576 thin-pool 3 218/2048 325/8192 - rw no_discard_passdown queue_if_no_space - 512 \n":                  {218, 2048, 8192, false, true},
		"0 1179648 thin-pool 5 327/3072 326/9216 59 rw no_discard_passdown queue_if_no_space - 768":                    {327, 3072, 9216, true, true},
		"0 1 thin-pool 0 1/2 3/3 - out_of_data_space discard_passdown error_if_no_space needs_check 1024":              {1, 2, 3, false, true},
		"0 1 thin-pool 0 1/2 3/3 - ro discard_passdown queue_if_no_space - 1024":                                       {1, 2, 3, false, false},
		"0 1 thin-pool 0 9223372036854775807/9223372036854775807 3/3 - ro discard_passdown queue_if_no_space - 1024\n": {1<<63 - 1, 1<<63 - 1, 3, false, false},
	} {
		if got, err := parseStatus(line); err != nil || got != want {
			t.Errorf("%q is %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "0 1 thin-pool Fail", "0 1 thin-pool Error", "0 1 thin 1 2", "0 1 thin-pool 0 1 3/3 - rw x y", "0 1 thin-pool 0 1/x 3/3 - rw x y"} {
		if got, err := parseStatus(line); err == nil {
			t.Errorf("%q is %+v", line, got)
		}
	}
	if _, err := parseStatus("0 1 thin-pool Fail"); !errors.Is(err, ErrNoRoom) {
		t.Error(err)
	}
}

func FuzzDump(f *testing.F) {
	for _, s := range []string{dumpOld, dumpNew, "", "<superblock>", "<device dev_id=\"1\"/>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tally := newTally(func(id int) string { return string(rune('a' + id%3)) })
		p := &parser{tally: tally, blocks: 512}
		if p.read(strings.NewReader(s)) != nil {
			return
		}
		u, err := tally.usage()
		if err != nil {
			return
		}
		if len(tally.words) > 512 {
			t.Errorf("%d blocks are kept", len(tally.words))
		}
		var exclusive, owned lvm.Size
		for _, v := range u.Volumes {
			exclusive += v.Exclusive
			if v.Exclusive > v.Mapped || v.Own > v.Mapped {
				t.Errorf("%+v", v)
			}
		}
		for _, o := range u.Owners {
			owned += o
		}
		if exclusive > owned || owned > 512*u.Chunk {
			t.Errorf("%s of volumes, %s of owners", exclusive, owned)
		}
	})
}
