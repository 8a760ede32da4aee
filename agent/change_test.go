package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lls/agent/api"
	"lls/agent/filesystem"
	"lls/lvm"
)

func TestAResizeOfAFrozenFileSystemIsBusyAndSaysWhatHelps(t *testing.T) {
	for name, growErr := range map[string]error{
		"the first, in the end": errors.Join(filesystem.ErrSlow, context.DeadlineExceeded),
		"the next, at once":     filesystem.ErrSlow,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			v := b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "a", Size: "1G"}, "")
			b.dev.growErr = growErr
			e := api.AsError(b.c1.Post(t.Context(), api.PathResize, api.ResizeRequest{Name: "a", Size: "2G"}, nil))
			if e.Code != api.Busy || e.Message != "cannot resize a: it has grown to 2G, but its file system has not: it does not answer; is it frozen?" ||
				e.Hint != "if it is: fsfreeze -u PATH, then have it grow: lls resize a 2G" {
				t.Errorf("%s (%s); %s", e.Message, e.Code, e.Hint)
			}
			if r := b.record(v.ID); !r.Growing || r.LV.Size != 2*lvm.GiB {
				t.Errorf("%+v", r)
			}
			b.dev.growErr = nil
			b.post(b.c1, api.PathResize, api.ResizeRequest{Name: "a", Size: "2G"}, "") // as the hint says
			if r := b.record(v.ID); r.Growing || r.LV.Size != 2*lvm.GiB {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAVolumeThatGrowsByItselfAndIsFrozenSaysWhatHelps(t *testing.T) {
	b := newBench(t)
	c := b.growClock()
	id, at := b.growingBy("a", "10G")
	w := &volumeGrowing{}
	b.dev.growErr = filesystem.ErrSlow
	for range 2 { // the growth itself, and what is to finish it
		at(90, w)
		s := b.stuckAs(id, w, at)
		if !strings.Contains(s.why, "does not answer") || !strings.Contains(s.remedy, "fsfreeze -u") {
			t.Errorf("%+v", s)
		}
		c.pass(10 * time.Minute)
	}
}
