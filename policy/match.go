package policy

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// rule is one [[rules]], or what a pool's own table sets.
type rule struct {
	pool, container, volume string // shell patterns; an empty one matches all
	sets                    []func(*settings)
}

// PoolRules are what is decided for a pool as a whole.
type PoolRules struct {
	Data, Metadata Growth
	Trim           Trim
	// DataPercent and MetadataPercent are the fill levels from which on nothing new is made.
	DataPercent, MetadataPercent float64
	Overcommit                   float64 // how many times the pool's size its volumes may have together; 0 is no limit
}

// Rules are what is decided for a volume of a container in a pool, or for the container there when volume is empty. container is a
// name without its token, "host" for the sysadmin, whom Limits are not meant for.
func (c *Config) Rules(pool, container, volume string) Rules {
	s := c.settings(pool, container, volume)
	return Rules{Limits: s.limits, Growth: s.volume, Expiry: s.expiry, Trim: s.trim, Raw: s.raw}
}

// PoolRules are what is decided for a pool.
func (c *Config) PoolRules(pool string) PoolRules {
	s := c.settings(pool, "", "")
	return PoolRules{
		Data: s.data, Metadata: s.metadata, Trim: s.trim,
		DataPercent: s.limits.DataPercent, MetadataPercent: s.limits.MetadataPercent, Overcommit: s.limits.Overcommit,
	}
}

// ShortestAge is the shortest time after which anything happens to any volume because of its age; Never when nothing does.
func (c *Config) ShortestAge() time.Duration {
	shortest := Never
	look := func(e Expiry) {
		for _, d := range []time.Duration{e.Unused, e.Notice, e.Trash, e.IdleMax} {
			if d > 0 {
				shortest = min(shortest, d)
			}
		}
	}
	look(c.general.expiry)
	for _, r := range c.rules {
		s := c.general
		for _, set := range r.sets {
			set(&s)
		}
		look(s.expiry)
	}
	return shortest
}

// settings are the general ones, and over them each rule that matches.
func (c *Config) settings(pool, container, volume string) settings {
	s := c.general
	for _, r := range c.rules {
		if !matches(r.pool, pool) || !matches(r.container, container) || !matches(r.volume, volume) {
			continue
		}
		for _, set := range r.sets {
			set(&s)
		}
	}
	return s
}

// matches tries a pattern that is known to be good. What has no name is matched by no pattern.
func matches(pattern, name string) bool {
	if pattern == "" || name == "" {
		return pattern == ""
	}
	glob, err := ofShell(pattern)
	if err != nil {
		return false
	}
	ok, _ := path.Match(glob, name)
	return ok
}

// ofShell is a shell's pattern, as glob(7) has it, in the words of path.Match, which says [^a] for what a shell calls [!a]. Classes such as
// [[:alpha:]] it does not know, and braces are no pattern at all: both would match something else than is meant.
func ofShell(pattern string) (string, error) {
	var b strings.Builder
	inside := false // of brackets
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		rest := pattern[i+1:]
		switch {
		case c == '\\' && rest != "":
			b.WriteByte(c)
			i++
			c = rest[0]
		case inside && c == '[' && strings.ContainsAny(rest[:min(1, len(rest))], ":.="):
			return "", fmt.Errorf("%q has a class of characters, which is not known here: write the characters, such as [a-z]", pattern)
		case inside:
			inside = c != ']'
		case c == '[':
			inside = true
			if strings.HasPrefix(rest, "!") {
				b.WriteByte(c)
				i++
				c = '^'
			}
		case c == '{':
			return "", fmt.Errorf("%q has braces, which are no pattern: write one rule for each", pattern)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// rules reads [[rules]]. The result has the table of each, by its place in c.rules.
func (p *parser) rules(c *Config, v any) map[int]*table {
	from := map[int]*table{}
	if v == nil {
		return from
	}
	keys := p.keys()
	for i, values := range p.tables([]string{"rules"}, v) {
		if values == nil {
			continue
		}
		r, wrong := rule{}, len(p.wrong)
		t := p.table([]string{"rules", element(i)}, values, names(keys, "pool", "container", "volume"))
		get(t, "pool", &r.pool, pattern)
		get(t, "container", &r.container, pattern)
		get(t, "volume", &r.volume, pattern)
		t.checkPool(c, r.pool)
		r.sets = t.settings(keys)
		t.checkScope(keys)
		if len(r.sets) == 0 && len(p.wrong) == wrong {
			t.wrongAt("", "this rule sets nothing")
		}
		from[len(c.rules)] = t
		c.rules = append(c.rules, r)
	}
	return from
}

// pattern is one that a name could match: names have neither slash nor token.
var pattern = textWhere(func(s string) error {
	glob, err := ofShell(s)
	if err != nil {
		return err
	}
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("%q is no pattern that a shell would take", s)
	}
	if strings.ContainsAny(s, "/#") {
		return fmt.Errorf("%q can match nothing: no name has a / or #", s)
	}
	return nil
})

// checkScope finds settings that cannot hold for what the rule matches.
func (t *table) checkScope(keys []key) {
	for _, k := range keys {
		if _, ok := t.values[k.name]; !ok {
			continue
		}
		for _, by := range []struct {
			what    string
			allowed bool
		}{{"pool", k.scope.pool}, {"container", k.scope.container}, {"volume", k.scope.volume}} {
			if pattern, ok := t.values[by.what]; ok && pattern != "" && !by.allowed {
				t.wrongAt(k.name, "a rule with a %s cannot set it: %s", by.what, k.scope.why)
			}
		}
		if t.values["container"] == sysadmin && k.scope.container && strings.HasPrefix(k.name, "limits.") {
			t.wrongAt(k.name, "the sysadmin, who is %q, is not limited; a container of that name is %q", sysadmin, "[h]ost")
		}
	}
}

// sysadmin is what stands for the host in place of a container.
const sysadmin = "host"

// checkPool finds a rule for a pool that the file does not have, where it has any: what is no pattern can only be a name.
func (t *table) checkPool(c *Config, name string) {
	if name == "" || len(c.Pools) == 0 || strings.ContainsAny(name, `*?[\`) {
		return
	}
	if _, ok := c.Pool(name); ok {
		return
	}
	var all []string
	for _, p := range c.Pools {
		all = append(all, p.Name)
	}
	t.wrongAt("pool", "no pool is called %q; there are %s", name, strings.Join(all, ", "))
}
