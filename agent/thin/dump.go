package thin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"lls/lvm"
)

// errDump means that thin_dump wrote what it never should.
var errDump = errors.New("thin_dump wrote something unknown")

// span is a run of data blocks that a volume got at one time.
type span struct {
	begin, length uint64
	time          uint32
}

func (s span) end() uint64 { return s.begin + s.length }

// maxLine is the longest line that is read; the longest that thin_dump writes has some 200 bytes.
const maxLine = 4 << 10

// parser reads the XML of thin_dump, which has one element a line:
//
//	<superblock … data_block_size="128" …>
//	  <def name="24">                               mappings that several volumes share; written since 1.0
//	    <range_mapping origin_begin="126" data_begin="126" length="194" time="0"/>
//	  </def>
//	  <device dev_id="1" mapped_blocks="320" …>
//	    <single_mapping origin_block="31" data_block="325" time="2"/>
//	    <ref name="24"/>
//	  </device>
//	</superblock>
type parser struct {
	tally  *tally
	blocks uint64 // of the pool's data

	open  string // the element inside of superblock: device, def, or none
	begun bool
	ended bool
	defs  map[string][]span
	def   string
	kept  int // spans in defs
}

func (p *parser) read(r io.Reader) error {
	p.defs = map[string][]span{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if err := p.line(line); err != nil {
			return fmt.Errorf("%w: %.100q", err, line)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !p.ended {
		return fmt.Errorf("thin_dump did not end: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

func (p *parser) line(line string) error {
	e, ok := parseElement(line)
	if !ok {
		return errDump
	}
	inside := p.begun && !p.ended
	within := inside && p.open != ""
	switch {
	case e.name == "superblock" && !p.begun:
		p.begun = true
		sectors, ok := e.number("data_block_size")
		if !ok || sectors == 0 || sectors > maxChunk/512 {
			return errDump
		}
		p.tally.chunk = lvm.Size(sectors) * 512
		p.tally.time, ok = e.time("time")
		if !ok {
			return errDump
		}
		return nil
	case e.name == "/superblock" && inside && !within:
		p.ended = true
		return nil
	case e.name == "device" && inside && !within:
		id, ok := e.number("dev_id")
		since, ok2 := e.time("snap_time")
		if !ok || !ok2 || id >= maxVolumes {
			return errDump
		}
		p.enter(e)
		return p.tally.begin(int(id), since)
	case e.name == "def" && inside && !within:
		name, ok := e.text("name")
		if _, twice := p.defs[name]; !ok || twice {
			return errDump
		}
		if len(p.defs) >= maxDefs {
			return fmt.Errorf("%w: more than %d groups of shared mappings", ErrTooBig, maxDefs)
		}
		p.enter(e)
		p.def, p.defs[name] = name, nil
		return nil
	case within && e.name == "/"+p.open:
		p.open = ""
		return nil
	case within && e.name == "ref":
		return p.ref(e)
	case within && e.name == "single_mapping":
		block, ok := e.number("data_block")
		at, ok2 := e.time("time")
		return p.span(span{block, 1, at}, ok && ok2)
	case within && e.name == "range_mapping":
		begin, ok := e.number("data_begin")
		length, ok2 := e.number("length")
		at, ok3 := e.time("time")
		return p.span(span{begin, length, at}, ok && ok2 && ok3)
	}
	return errDump
}

func (p *parser) enter(e element) {
	if !e.empty {
		p.open = e.name
	}
}

// maxChunk is the largest block a thin pool can have, 1 GiB (DATA_DEV_BLOCK_SIZE_MAX_SECTORS in drivers/md/dm-thin.c).
const maxChunk = 1 << 30

func (p *parser) ref(e element) error {
	name, ok := e.text("name")
	spans, known := p.defs[name]
	if !ok || !known || p.open == "def" && name == p.def {
		return errDump
	}
	for _, s := range spans {
		if err := p.span(s, true); err != nil {
			return err
		}
	}
	return nil
}

// span takes a mapping of the volume, or for later.
func (p *parser) span(s span, ok bool) error {
	if !ok || s.length == 0 || s.begin >= p.blocks || s.length > p.blocks-s.begin {
		return errDump
	}
	if p.open == "device" {
		return p.tally.mark(s)
	}
	if p.kept++; p.kept > maxSpans {
		return fmt.Errorf("%w: more than %d shared mappings", ErrTooBig, maxSpans)
	}
	p.defs[p.def] = append(p.defs[p.def], s)
	return nil
}

// element is one XML tag.
type element struct {
	name       string // with a slash in front when it closes
	attributes string // beginning with a space
	empty      bool   // whether it closes itself
}

func parseElement(line string) (element, bool) {
	line, ok := strings.CutPrefix(line, "<")
	line, ok2 := strings.CutSuffix(line, ">")
	line, empty := strings.CutSuffix(line, "/")
	end := strings.IndexByte(line+" ", ' ')
	return element{name: line[:end], attributes: line[end:], empty: empty}, ok && ok2
}

func (e element) text(key string) (string, bool) {
	_, rest, ok := strings.Cut(e.attributes, " "+key+`="`)
	value, _, ok2 := strings.Cut(rest, `"`)
	return value, ok && ok2
}

func (e element) number(key string) (uint64, bool) {
	s, ok := e.text(key)
	n, err := strconv.ParseUint(s, 10, 63)
	return n, ok && err == nil
}

// time is one of the pool's times, which count the snapshots taken in it.
func (e element) time(key string) (uint32, bool) {
	n, ok := e.number(key)
	return uint32(n), ok && n <= math.MaxUint32
}
