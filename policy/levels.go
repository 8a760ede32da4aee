package policy

import "strconv"

// levels are the two pairs of a fill level from which nothing new is made, and one from which there is growth.
var levels = []struct {
	part           Part
	limit, growth  string // their keys
	level, growsAt func(s settings) float64
}{
	{PartData, "limits.data_percent", "growth.data.threshold",
		func(s settings) float64 { return s.limits.DataPercent }, func(s settings) float64 { return s.data.Threshold }},
	{PartMetadata, "limits.metadata_percent", "growth.metadata.threshold",
		func(s settings) float64 { return s.limits.MetadataPercent }, func(s settings) float64 { return s.metadata.Threshold }},
}

// checkLevels finds pools that would be closed to everything new before they grow: nobody could tell whoever is refused when that ends. It
// is told of once, of the table that made it so. With no pool at all, the general sections are one.
func (p *parser) checkLevels(c *Config, general *table, rules map[int]*table) {
	pools := []string{""}
	if len(c.Pools) > 0 {
		pools = pools[:0]
	}
	for _, pool := range c.Pools {
		pools = append(pools, pool.Name)
	}
	for _, l := range levels {
		told := map[*table]bool{}
		wrong := func(s settings) bool { return l.growsAt(s) > l.level(s) }
		for _, pool := range pools {
			s, from := c.general, general
			for i, r := range c.rules {
				if !matches(r.pool, pool) || r.container != "" || r.volume != "" {
					continue
				}
				was := wrong(s)
				for _, set := range r.sets {
					set(&s)
				}
				if !was && wrong(s) {
					from = rules[i]
				}
			}
			if wrong(s) && !told[from] {
				told[from] = true
				from.bothLevels(l.limit, l.growth, l.part, l.level(s), l.growsAt(s))
			}
		}
	}
}

// bothLevels complains at the line of one of two keys that the table has.
func (t *table) bothLevels(limit, growth string, part Part, level, growsAt float64) {
	percent := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	if _, ok := t.values[limit]; ok {
		t.wrongAt(limit, "nothing new is made from %s%% on, but the pool's %s grows from %s%% on only (%s): that must not be more, or be 0 for never",
			percent(level), part, percent(growsAt), growth)
		return
	}
	t.wrongAt(growth, "the pool's %s grows from %s%% on only, but nothing new is made from %s%% on (%s): it must not be more, or be 0 for never",
		part, percent(growsAt), percent(level), limit)
}
