package policy

import (
	"reflect"
	"testing"
	"time"
)

func TestTrimsAreDueByTheClockAndUnderPressure(t *testing.T) {
	weekly := Trim{Every: 7 * day, Pressure: 70}
	volumes := []Trimmed{
		{ID: "week", Trim: weekly, Mounted: Yes, Before: true, Since: 7 * day},
		{ID: "longer", Trim: weekly, Mounted: Yes, Before: true, Since: 9 * day},
		{ID: "never", Trim: weekly, Mounted: Yes, Since: 8 * day},
		{ID: "new", Trim: weekly, Mounted: Yes},
		{ID: "today", Trim: weekly, Mounted: Yes, Before: true, Since: time.Hour},
		{ID: "now", Trim: weekly, Mounted: Yes, Before: true, Since: time.Hour - 1},
		{ID: "unmounted", Trim: weekly, Mounted: No, Before: true, Since: 9 * day},
		{ID: "unknown", Trim: weekly, Before: true, Since: 9 * day},
		{ID: "ro", Trim: weekly, Mounted: Yes, ReadOnly: true, Since: 9 * day},
		{ID: "off", Mounted: Yes, Before: true, Since: 9 * day},
		{ID: "often", Trim: Trim{Every: time.Minute}, Mounted: Yes, Before: true, Since: 2 * time.Minute},
	}
	tests := []struct {
		name string
		fill Fill
		want []string
	}{
		{"by the clock", Fill{DataPercent: 69.9, Known: true}, []string{"never", "longer", "week"}},
		{"not known how full", Fill{DataPercent: 99}, []string{"never", "longer", "week"}},
		{"under pressure", Fill{DataPercent: 70, Known: true}, []string{"never", "new", "longer", "week", "today"}},
	}
	for _, tt := range tests {
		var got []string
		for _, turn := range TrimDue(volumes, tt.fill) {
			got = append(got, turn.ID)
			if turn.Why == "" {
				t.Errorf("%s: no reason for %s", tt.name, turn.ID)
			}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if why := TrimDue(volumes[:1], Fill{})[0].Why; why != "last trimmed 7d ago of 7d" {
		t.Errorf("%q", why)
	}
}
