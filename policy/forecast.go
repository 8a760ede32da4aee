package policy

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Sample is how much of a pool was in use at one moment.
type Sample struct {
	At       time.Time     `json:"at"`       // by the wall clock; only for people, nothing is computed from it
	Run      string        `json:"run"`      // the run of the agent that took it: times of different runs do not compare
	Observed time.Duration `json:"observed"` // running time since that run began
	Data     int64         `json:"data"`     // bytes in use
	Metadata int64         `json:"metadata"` // bytes in use
}

// Part is what of a pool fills.
type Part string

// Values of Part.
const (
	PartData     Part = "data"
	PartMetadata Part = "metadata"
)

func (s Sample) used(p Part) int64 {
	if p == PartMetadata {
		return s.Metadata
	}
	return s.Data
}

// How samples are kept. All times are observed: what passed while no agent ran has no samples.
const (
	sampleFine   = 5 * time.Minute // between two samples of the last day
	sampleCoarse = time.Hour       // between two older ones
	sampleKeep   = 14 * day
	sampleMax    = 1000 // however often the agent was restarted; without that it is about 600
	sampleSlack  = 10 * time.Second
	sampleGap    = 3 * time.Hour // two samples further apart than this say nothing of what was between
)

// apart is the observed time between two samples that were taken one after the other; ok is false where it cannot be told: over
// a restart of the agent, or because one of them is odd.
func apart(a, b Sample) (d time.Duration, ok bool) {
	if a.Run != b.Run || a.Observed < 0 || b.Observed <= a.Observed {
		return 0, false
	}
	return b.Observed - a.Observed, true
}

// Thin gives the samples that are worth keeping, of samples in the order in which they were taken: about one in five minutes of the
// last day and one an hour of two weeks, of observed time. Thinning what was thinned changes nothing.
func Thin(samples []Sample) []Sample {
	age := make([]time.Duration, len(samples)) // of each, by the time of the newest
	for i := len(samples) - 2; i >= 0; i-- {
		d, _ := apart(samples[i], samples[i+1])
		age[i] = plus(age[i+1], d)
	}
	var kept []Sample
	for i, s := range samples {
		newest := i == len(samples)-1
		if age[i] > sampleKeep && !newest {
			continue
		}
		if len(kept) > 0 && !newest {
			spacing := sampleFine
			if age[i] > day {
				spacing = sampleCoarse
			}
			// From the oldest on, so that what is kept today is what the next one starts from tomorrow.
			if d, ok := apart(kept[len(kept)-1], s); ok && d < spacing-sampleSlack {
				continue
			}
		}
		kept = append(kept, s)
	}
	return kept[max(0, len(kept)-sampleMax):]
}

// Windows of Forecast, and how much must have been observed of each before it says anything.
const (
	windowShort      = time.Hour
	windowShortLeast = 10 * time.Minute
	windowLong       = day
	windowLongLeast  = windowShort
)

// Outlook is how a part of a pool fills.
type Outlook struct {
	Part       Part
	Used, Size int64         // bytes
	Rate       float64       // bytes an hour; 0 or less: it does not fill
	In         time.Duration // until it is full; Never where it does not fill, or not within ten years
	FullAt     time.Time     // the same by the wall clock; zero where In is Never
	Known      bool          // false: too little was observed
}

// farOff is how far ahead a forecast is worth a number.
const farOff = 10 * 365 * day

// Forecast says when a part of a pool that has size bytes is full, from samples in the order in which they were taken. The rate is what
// was added in the last hour or in the last day, whichever is more: a fast writer shows at once, and one that writes at night shows all
// day. Only observed time counts; what samples say over a restart, a long gap or against each other is dropped. A pool that grew
// meanwhile makes no difference, as bytes are counted.
func Forecast(samples []Sample, part Part, size int64, now time.Time) Outlook {
	o := Outlook{Part: part, Size: size, In: Never}
	if len(samples) == 0 || size <= 0 {
		return o
	}
	o.Used = samples[len(samples)-1].used(part)
	if o.Used < 0 {
		o.Used = 0
		return o
	}
	short, seen := rate(samples, part, windowShort)
	known := seen >= windowShortLeast
	if known {
		o.Rate = short
	}
	if long, seen := rate(samples, part, windowLong); seen >= windowLongLeast && (!known || long > o.Rate) {
		o.Rate, known = long, true
	}
	o.Known = known
	left := size - o.Used
	if left <= 0 {
		o.In, o.FullAt = 0, now
		return o
	}
	if !known || o.Rate <= 0 {
		return o
	}
	if hours := float64(left) / o.Rate; hours < farOff.Hours() {
		o.In = time.Duration(hours * float64(time.Hour))
		o.FullAt = now.Add(o.In)
	}
	return o
}

// rate is by how many bytes an hour the use rose in the last window of observed time, and how much of it was observed.
func rate(samples []Sample, part Part, window time.Duration) (perHour float64, seen time.Duration) {
	var added float64
	for i := len(samples) - 1; i > 0 && seen < window; i-- {
		a, b := samples[i-1], samples[i]
		d, ok := apart(a, b)
		if !ok || d > sampleGap || a.used(part) < 0 || b.used(part) < 0 {
			continue
		}
		share := 1.0
		if d > window-seen { // the part of it that lies in the window
			share = float64(window-seen) / float64(d)
			d = window - seen
		}
		added += share * (float64(b.used(part)) - float64(a.used(part)))
		seen += d
	}
	if seen <= 0 {
		return 0, 0
	}
	return added / seen.Hours(), seen
}

// String says it in words: "at 38G/h data is full in 2d 4h".
func (o Outlook) String() string {
	part := string(o.Part)
	pace := "at " + FormatSize(bytes(math.Ceil(o.Rate))) + "/h "
	switch {
	case o.Size > 0 && o.Used >= o.Size:
		return part + " is full"
	case !o.Known:
		return "too little was seen yet to say when " + part + " is full"
	case o.Rate <= 0:
		return part + " is not filling"
	case o.In == Never:
		return pace + part + " is not full within 10 years"
	case o.In < time.Minute:
		return pace + part + " is full in less than a minute"
	}
	return pace + part + " is full in " + FormatSpan(o.In)
}

// Writer is a volume, and how many bytes of new blocks it got.
type Writer struct {
	ID    string
	Bytes int64
}

// TopWriters gives the at most n volumes that got most new blocks; the largest first. Each is known by two figures, by id, of which the
// larger counts: by how much its mapped bytes grew between two looks, and what it is known to have written, in place of blocks that it
// shared, too, which leave the mapped bytes as they are. Mapped bytes that are not in both looks are left out: a thin snapshot is born with
// all that its origin has mapped, and wrote none of it.
func TopWriters(before, after, written map[string]int64, n int) []Writer {
	got := map[string]int64{}
	for id, now := range after {
		if was, ok := before[id]; ok && was >= 0 {
			got[id] = now - was
		}
	}
	for id, more := range written {
		got[id] = max(got[id], more)
	}
	var all []Writer
	for id, bytes := range got {
		if bytes > 0 {
			all = append(all, Writer{id, bytes})
		}
	}
	slices.SortFunc(all, func(a, b Writer) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(max(n, 0), len(all))]
}
