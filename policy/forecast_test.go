package policy

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// fills gives a sample every five minutes of one run, with what is in use by then.
func fills(run string, from, to time.Duration, used func(time.Duration) int64) (out []Sample) {
	for at := from; at <= to; at += 5 * time.Minute {
		out = append(out, Sample{At: noon.Add(at), Run: run, Observed: at - from, Data: used(at), Metadata: 10 * mib})
	}
	return out
}

func linear(start, perHour int64) func(time.Duration) int64 {
	return func(at time.Duration) int64 { return start + int64(at.Hours()*float64(perHour)) }
}

func TestForecastSaysWhenItIsFull(t *testing.T) {
	h := time.Hour
	steady := fills("a", 0, 48*h, linear(100*gib, 38*gib))
	used := steady[len(steady)-1].Data
	jumped := append([]Sample(nil), steady...)
	for i := range jumped[len(jumped)/2:] {
		jumped[len(jumped)/2+i].At = jumped[len(jumped)/2+i].At.AddDate(10, 0, 0)
	}
	restarted := append(fills("a", 0, 24*h, linear(0, gib)), fills("b", 34*h, 46*h, linear(5000*gib, gib))...)
	for i := range restarted {
		if restarted[i].Run == "b" {
			restarted[i].Observed += 25 * h // it took no sample in its first day
		}
	}
	odd := append([]Sample(nil), steady...)
	odd[len(odd)-5].Data = -1
	odd[len(odd)-9].Observed = -3
	odd[len(odd)-12].Observed = 0
	burst := fills("a", 0, 24*h, func(at time.Duration) int64 { // two hours of the night
		return 100*gib + int64(min(max(at-10*h, 0), 2*h).Hours()*float64(12*gib))
	})
	tests := []struct {
		name    string
		samples []Sample
		size    int64
		want    string
	}{
		{"steady", steady, used + 52*38*gib + gib, "at 38G/h data is full in 2d 4h"},
		{"a clock that jumped", jumped, used + 52*38*gib + gib, "at 38G/h data is full in 2d 4h"},
		{"odd samples", odd, used + 52*38*gib + gib, "at 38G/h data is full in 2d 4h"},
		{"over a restart", restarted, restarted[len(restarted)-1].Data + 24*gib, "at 1G/h data is full in 1d"},
		{"a fast writer", append(fills("a", 0, 24*h, linear(0, gib)), Sample{Run: "a", Observed: 25 * h, Data: 124 * gib}), 224 * gib, "at 100G/h data is full in 1h"},
		{"a writer of the night", burst, 100*gib + 48*gib, "at 1G/h data is full in 1d"},
		{"steady use", fills("a", 0, 24*h, linear(gib, 0)), 10 * gib, "data is not filling"},
		{"falling use", fills("a", 0, 24*h, linear(100*gib, -gib)), 110 * gib, "data is not filling"},
		{"slow", fills("a", 0, 24*h, linear(gib, 1000)), 1000 * gib, "at 1000B/h data is not full within 10 years"},
		{"full", steady, used, "data is full"},
		{"full in no time", steady, used + mib, "at 38G/h data is full in less than a minute"},
		{"nothing seen", nil, gib, "too little was seen yet to say when data is full"},
		{"too little seen", steady[:2], 1000 * gib, "too little was seen yet to say when data is full"},
		{"a gap", []Sample{{Run: "a", Data: 1}, {Run: "a", Observed: 20 * h, Data: gib}}, 2 * gib, "too little was seen yet to say when data is full"},
		{"samples two hours apart", []Sample{{Run: "a", Data: 0}, {Run: "a", Observed: 2 * h, Data: 4 * gib}}, 24 * gib, "at 2G/h data is full in 10h"},
		{"a quarter of an hour", steady[:4], steady[3].Data + 38*gib, "at 38G/h data is full in 1h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Forecast(tt.samples, PartData, tt.size, noon)
			if got := o.String(); got != tt.want {
				t.Errorf("%q, want %q\n%+v", got, tt.want, o)
			}
			if (o.In == Never) != o.FullAt.IsZero() || o.In != Never && !o.FullAt.Equal(noon.Add(o.In)) {
				t.Errorf("in %v and at %v do not agree", o.In, o.FullAt)
			}
		})
	}
	if o := Forecast(steady, PartMetadata, 100*mib, noon); o.String() != "metadata is not filling" || o.Used != 10*mib {
		t.Errorf("metadata: %+v", o)
	}
}

func TestThinKeepsADayInFiveMinutesAndTwoWeeksInHours(t *testing.T) {
	var all, stepwise []Sample
	for at := time.Duration(0); at <= 20*day; at += time.Minute {
		s := Sample{Run: "a", Observed: at, Data: int64(at)}
		all, stepwise = append(all, s), append(stepwise, s)
		if at%(17*time.Minute) == 0 {
			stepwise = Thin(stepwise)
		}
	}
	end := all[len(all)-1].Observed
	for name, kept := range map[string][]Sample{"at once": Thin(all), "little by little": Thin(stepwise)} {
		if !reflect.DeepEqual(Thin(kept), kept) {
			t.Errorf("%s: thinning it once more changes it", name)
		}
		if n := len(kept); n < 550 || n > 620 {
			t.Errorf("%s: %d samples kept", name, n)
		}
		if kept[len(kept)-1] != all[len(all)-1] {
			t.Errorf("%s: the newest is gone", name)
		}
		if first := end - kept[0].Observed; first < sampleKeep-2*time.Hour || first > sampleKeep {
			t.Errorf("%s: the oldest is from %v ago", name, first)
		}
		for i := 1; i < len(kept)-1; i++ {
			gap, most := kept[i].Observed-kept[i-1].Observed, 6*time.Minute
			if end-kept[i].Observed > day-time.Hour {
				most = 2 * time.Hour
			}
			if gap > most {
				t.Errorf("%s: a gap of %v, %v ago", name, gap, end-kept[i].Observed)
			}
		}
	}
}

func TestThinNeverKeepsMoreThanItsMost(t *testing.T) {
	var samples []Sample
	for i := range 5000 { // an agent that is restarted all the time
		samples = append(samples, Sample{Run: string(rune(i)), Data: int64(i)})
		samples = append(samples, Sample{Run: string(rune(i)), Observed: time.Minute, Data: int64(i)})
	}
	kept := Thin(samples)
	if len(kept) != sampleMax || kept[len(kept)-1] != samples[len(samples)-1] {
		t.Errorf("%d kept", len(kept))
	}
	if Thin(nil) != nil {
		t.Error("nothing became something")
	}
}

func TestForecastAndThinTakeAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	any := func() int64 { return pick(r, 0, -1, r.Int64(), -r.Int64(), r.Int64N(1000*gib)) }
	for range 2000 {
		var samples []Sample
		for range r.IntN(30) {
			samples = append(samples, Sample{Run: pick(r, "a", "a", "b"), Observed: time.Duration(any()), Data: any(), Metadata: any()})
		}
		for _, part := range []Part{PartData, PartMetadata} {
			o := Forecast(samples, part, any(), noon)
			if o.In < 0 || o.String() == "" || o.In != Never && o.In > farOff {
				t.Fatalf("%+v from %+v", o, samples)
			}
		}
		if kept := Thin(samples); len(samples) > 0 && (len(kept) == 0 || kept[len(kept)-1] != samples[len(samples)-1]) {
			t.Fatalf("%+v became %+v", samples, kept)
		}
	}
}

func TestTopWritersWroteMost(t *testing.T) {
	before := map[string]int64{"a": 10, "b": 10, "c": 10, "gone": 99, "same": 5, "less": 7, "odd": -3}
	after := map[string]int64{"a": 20, "b": 40, "c": 20, "new": 1000, "same": 5, "less": 6, "odd": 90}
	written := map[string]int64{"a": 3, "c": 25, "overwrites": 20, "less": -1, "nothing": 0}
	all := []Writer{{"b", 30}, {"c", 25}, {"overwrites", 20}, {"a", 10}}
	for n, want := range map[int][]Writer{-1: {}, 0: {}, 1: all[:1], 2: all[:2], 9: all} {
		if got := TopWriters(before, after, written, n); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%d of them: %v, want %v", n, got, want)
		}
	}
}

func TestSizesAndSpansReadAsPeopleWriteThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1000: "1000B", 1023: "1023B", 1024: "1K", 1536: "1.5K", mib - 1: "1M", 38 * gib: "38G", -gib: "-1G", 1<<63 - 1: "8192P"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", -day: "0s", time.Second: "1s", 90 * time.Second: "1m 30s", 52 * time.Hour: "2d 4h",
		30 * day: "30d", day + time.Minute: "1d", 400 * day: "1y 35d"} {
		if got := FormatSpan(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
