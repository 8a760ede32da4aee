package policy

import "time"

// settings are what [[rules]] can override, for one pool, container and volume.
type settings struct {
	limits                 Limits
	data, metadata, volume Growth
	expiry                 Expiry
	trim                   Trim
	raw                    Raw
}

// scope is by what a rule may choose where a key of it holds.
type scope struct {
	container, pool, volume bool
	why                     string // there is no more to it
}

// The scopes. The words say why a rule with another pattern would be impossible.
var (
	ofVolume      = scope{container: true, pool: true, volume: true}
	ofContainer   = scope{container: true, pool: true, why: "it bounds all that a container has in a pool"}
	ofPool        = scope{pool: true, why: "it is of a pool, whoever uses it"}
	ofAllRequests = scope{container: true, why: "it counts a container's requests in whatever pool"}
)

// key is one setting: its dotted name, and how it is read.
type key struct {
	name  string
	scope scope
	// read gives what puts the value in its place.
	read func(v any) (func(*settings), error)
}

func setting[T any](name string, of scope, read func(any) (T, error), place func(*settings) *T) key {
	return key{name, of, func(v any) (func(*settings), error) {
		got, err := read(v)
		return func(s *settings) { *place(s) = got }, err
	}}
}

// keys are all settings, in the order of lls.toml.example.
func (p *parser) keys() []key {
	all := []key{
		setting("limits.volumes", ofContainer, count, func(s *settings) *int { return &s.limits.Volumes }),
		setting("limits.snapshots", ofContainer, count, func(s *settings) *int { return &s.limits.Snapshots }),
		setting("limits.size", ofContainer, p.bytes, func(s *settings) *int64 { return &s.limits.Size }),
		setting("limits.exclusive", ofContainer, p.bytes, func(s *settings) *int64 { return &s.limits.Exclusive }),
		setting("limits.operations_per_minute", ofAllRequests, count, func(s *settings) *int { return &s.limits.OperationsPerMinute }),
		setting("limits.snapshots_per_minute", ofContainer, count, func(s *settings) *int { return &s.limits.SnapshotsPerMinute }),
		setting("limits.data_percent", ofPool, admission, func(s *settings) *float64 { return &s.limits.DataPercent }),
		setting("limits.metadata_percent", ofPool, admission, func(s *settings) *float64 { return &s.limits.MetadataPercent }),
		setting("limits.overcommit", ofPool, ratio, func(s *settings) *float64 { return &s.limits.Overcommit }),

		setting("growth.data.reserve", ofPool, p.reserve, func(s *settings) *Step { return &s.data.Reserve }),
		setting("growth.metadata.reserve", ofPool, p.reserve, func(s *settings) *Step { return &s.metadata.Reserve }),

		setting("expiry.unused", ofVolume, duration, func(s *settings) *time.Duration { return &s.expiry.Unused }),
		setting("expiry.notice", ofVolume, duration, func(s *settings) *time.Duration { return &s.expiry.Notice }),
		setting("expiry.trash", ofVolume, duration, func(s *settings) *time.Duration { return &s.expiry.Trash }),
		setting("expiry.lease_max", ofVolume, duration, func(s *settings) *time.Duration { return &s.expiry.LeaseMax }),
		setting("expiry.idle_max", ofVolume, duration, func(s *settings) *time.Duration { return &s.expiry.IdleMax }),

		setting("trim.every", ofPool, duration, func(s *settings) *time.Duration { return &s.trim.Every }),
		setting("trim.pressure", ofPool, level, func(s *settings) *float64 { return &s.trim.Pressure }),
		setting("trim.discard", ofVolume, boolean, func(s *settings) *bool { return &s.trim.Discard }),
	}
	all = append(all, p.growth("growth.data.", ofPool, p.bytes, func(s *settings) *Growth { return &s.data })...)
	all = append(all, p.growth("growth.metadata.", ofPool, p.metadataCap, func(s *settings) *Growth { return &s.metadata })...)
	all = append(all, p.growth("growth.volume.", ofVolume, p.bytes, func(s *settings) *Growth { return &s.volume })...)
	return append(all, rawKeys()...)
}

// growth are the settings that everything that grows has.
func (p *parser) growth(prefix string, of scope, top func(any) (int64, error), place func(*settings) *Growth) []key {
	return []key{
		setting(prefix+"threshold", of, threshold, func(s *settings) *float64 { return &place(s).Threshold }),
		setting(prefix+"step", of, p.step, func(s *settings) *Step { return &place(s).Step }),
		setting(prefix+"cap", of, top, func(s *settings) *int64 { return &place(s).Cap }),
		setting(prefix+"cooldown", of, duration, func(s *settings) *time.Duration { return &place(s).CoolDown }),
	}
}

// rawKeys are the settings that each pool has in its own table.
func rawKeys() []key {
	kinds := oneOf(RawNone, RawRead, RawWrite)
	return []key{
		setting("raw.privileged", ofVolume, kinds, func(s *settings) *string { return &s.raw.Privileged }),
		setting("raw.unprivileged", ofVolume, kinds, func(s *settings) *string { return &s.raw.Unprivileged }),
	}
}

func names(keys []key, more ...string) []string {
	for _, k := range keys {
		more = append(more, k.name)
	}
	return more
}

// settings reads those keys that the table has. Each of the results puts one value in its place.
func (t *table) settings(keys []key) []func(*settings) {
	var sets []func(*settings)
	for _, k := range keys {
		v, ok := t.values[k.name]
		if !ok {
			continue
		}
		set, err := k.read(v)
		if err != nil {
			t.wrongAt(k.name, "%v", err)
			continue
		}
		sets = append(sets, set)
	}
	t.checkNotice()
	return sets
}

// checkNotice finds a notice of what never happens. Only where both stand in one table: a rule may well switch off what a general
// section has given a notice.
func (t *table) checkNotice() {
	unused, err := duration(t.values["expiry.unused"])
	notice, noNotice := duration(t.values["expiry.notice"])
	if err == nil && noNotice == nil && unused == 0 && notice > 0 {
		t.wrongAt("expiry.notice", "nothing expires here, because unused is 0: there is nothing to give notice of")
	}
}
