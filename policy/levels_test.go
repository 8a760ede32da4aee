package policy

import (
	"fmt"
	"testing"
)

func TestAPoolMustGrowBeforeItIsClosed(t *testing.T) {
	const pools = "[pools.a]\nvg = \"vg\"\nlv = \"a\"\n[pools.b]\nvg = \"vg\"\nlv = \"b\"\n" // 6 lines
	for text, want := range map[string]string{
		"[limits]\ndata_percent = 80":                                                                     "",
		"[limits]\ndata_percent = 75":                                                                     "f:2: limits.data_percent: nothing new is made from 75% on, but the pool's data grows from 80% on only (growth.data.threshold): that must not be more, or be 0 for never",
		"[limits]\ndata_percent = 75\n[growth.data]\nthreshold = 75":                                      "",
		"[limits]\ndata_percent = 1\n[growth.data]\nthreshold = 0":                                        "",
		"[growth.data]\nthreshold = 98.5":                                                                 "f:2: growth.data.threshold: the pool's data grows from 98.5% on only, but nothing new is made from 95% on (limits.data_percent): it must not be more, or be 0 for never",
		"[growth.metadata]\nthreshold = 91":                                                               "f:2: growth.metadata.threshold: the pool's metadata grows from 91% on only, but nothing new is made from 90% on (limits.metadata_percent): it must not be more, or be 0 for never",
		"[[rules]]\ngrowth.metadata.threshold = 91":                                                       "f:2: rules.growth.metadata.threshold: the pool's metadata grows from 91% on only, but nothing new is made from 90% on (limits.metadata_percent): it must not be more, or be 0 for never",
		pools + "[[rules]]\npool = \"*\"\nlimits.metadata_percent = 50":                                   "f:9: rules.limits.metadata_percent: nothing new is made from 50% on, but the pool's metadata grows from 70% on only (growth.metadata.threshold): that must not be more, or be 0 for never",
		pools + "[[rules]]\npool = \"c*\"\nlimits.data_percent = 50":                                      "", // there is no such pool
		pools + "[limits]\ndata_percent = 50\n[[rules]]\npool = \"a\"\ngrowth.data.threshold = 50":        "f:8: limits.data_percent: nothing new is made from 50% on, but the pool's data grows from 80% on only (growth.data.threshold): that must not be more, or be 0 for never",
		pools + "[limits]\ndata_percent = 50\n[[rules]]\npool = \"[ab]\"\ngrowth.data.threshold = 50":     "",
		pools + "[[rules]]\npool = \"b\"\nlimits.data_percent = 50\n[[rules]]\ngrowth.data.threshold = 0": "",
	} {
		_, err := Parse("f", []byte(text), size)
		if got := map[bool]string{true: "", false: fmt.Sprint(err)}[err == nil]; got != want {
			t.Errorf("%s\ntells %s\nwant  %s", text, got, want)
		}
	}
}
