package agent

import (
	"testing"

	"lls/agent/api"
)

func TestAMountThatIsThereAndWritableIsNotTakenForAReadOnlyOne(t *testing.T) {
	for name, tt := range map[string]struct {
		volume       string
		first, again bool // read-only
		access       string
		want         api.Code
		readOnly     bool // what is there
	}{
		"writable, read-only asked for": {volume: "mine", again: true, want: api.Busy},
		"writable twice":                {volume: "mine"},
		"read-only twice":               {volume: "mine", first: true, again: true, readOnly: true},
		"read-only, writable asked for": {volume: "mine", first: true, readOnly: true},
		"a read-only device":            {volume: "frozen", readOnly: true},
		"a read-only device, asked for": {volume: "frozen", again: true, readOnly: true},
		"its owner lets it be read now": {volume: "d", access: api.AccessRO},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			newKernel(b)
			b.withTree()
			b.post(b.c1, api.PathCreate, api.CreateRequest{Name: "mine", Size: "1G"}, "")
			b.post(b.c1, api.PathSnapshot, api.SnapshotRequest{Source: "mine", Name: "frozen", ReadOnly: true}, "")
			b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G"}, "")
			b.post(b.admin, api.PathSet, api.SetRequest{Name: "d", Access: api.AccessRW}, "")
			b.post(b.c1, api.PathMount, api.MountRequest{Name: tt.volume, Path: "/data", ReadOnly: tt.first}, "")
			if tt.access != "" {
				b.post(b.admin, api.PathSet, api.SetRequest{Name: tt.volume, Access: tt.access}, "")
			}
			var m api.Mount
			err := b.c1.Post(t.Context(), api.PathMount, api.MountRequest{Name: tt.volume, Path: "/data", ReadOnly: tt.again}, &m)
			const why = "cannot mount mine at /data: it is mounted there already, writable"
			switch {
			case tt.want == "":
				if err != nil || !m.Already || m.ReadOnly != tt.readOnly {
					t.Errorf("%+v, %v", m, err)
				}
			case err == nil:
				t.Errorf("it is said to be mounted: %+v", m)
			default:
				if e := api.AsError(err); e.Code != tt.want || e.Message != why || e.Hint != "unmount it first: lls umount /data" {
					t.Errorf("%v; %s", e, e.Hint)
				}
			}
			options := ""
			if tt.again {
				options = ",ro"
			}
			b.setFstab("lls:" + tt.volume + " /data lls noauto,x-lls.auto" + options)
			lines := b.replayed()
			if len(lines) != 1 || lines[0].Mounted != (tt.want == "") || lines[0].Later || lines[0].Warning != "" || tt.want != "" && lines[0].Problem != why {
				t.Errorf("replayed %+v", lines)
			}
		})
	}
}
