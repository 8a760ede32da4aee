package cli

import (
	"context"
	"net/url"
	"strings"
	"time"

	"lls/agent/api"
)

func refresh() Command {
	return Command{
		Name: "refresh", Operands: "NAME", Min: 1, Max: 1,
		Short: "put a new snapshot of its origin in a snapshot's place, at the same mount points",
		Flags: []Flag{{Name: "yes", Help: "do not ask"}},
		Examples: []Example{
			{"refresh mine", "asks first; your edits go to the trash"},
			{"refresh mine --yes", "does not ask"},
			{"undelete mine --as mine-old", "has your edits back, beside it"},
		},
		Run: func(ctx context.Context, c *Call) error {
			name := c.Operand(0)
			if !c.Has("yes") {
				if err := c.mayRefresh(ctx, name); err != nil {
					return err
				}
			}
			var r api.Refreshed
			if err := c.Post(ctx, api.PathRefresh, api.NameRequest{Name: name}, &r); err != nil {
				return err
			}
			line := "what it was, with your edits" + c.edits(r.Edits, r.EditsAt, r.Old.Used) + ", is in the trash"
			if r.Old.Expires != nil {
				line += " until " + date(*r.Old.Expires, c.Now())
			}
			return c.Show(r,
				r.Volume.Name+" is now what "+origin(r.Volume)+" was at "+date(r.Volume.Created, c.Now())+mountedAt(r.Volume),
				line+"; to have it back: "+c.Hint("undelete", r.Volume.Name, "--as", oldName(name)))
		},
	}
}

// mayRefresh asks the person at the terminal, who is to know what goes and how it comes back.
func (c *Call) mayRefresh(ctx context.Context, name string) error {
	nobody := api.Errorf(api.Malformed, "cannot refresh %s: nobody is there to confirm it", name).WithHint("if you mean it: %s", c.Hint("refresh", name, "--yes"))
	if !c.Ask() {
		return nobody
	}
	var v api.Volume
	if err := c.Get(ctx, api.PathVolume, url.Values{"name": {name}}, &v); err != nil {
		return err
	}
	said, err := c.Confirm(ctx, "What "+name+" is, with your edits"+c.edits(nil, nil, v.Used)+", goes to the trash; to have it back: "+
		c.Hint("undelete", name, "--as", oldName(name))+". Make "+name+" what "+origin(v)+" is now?")
	switch {
	case err != nil:
		return err
	case said == Nobody:
		return nobody
	case said == No:
		return api.Errorf(api.Failed, "cannot refresh %s: you did not say yes", name).
			WithHint("it is as it was: %s", c.Hint("info", name))
	}
	return nil
}

// origin is what v is a snapshot of, as far as one may know.
func origin(v api.Volume) string {
	if v.Origin == "" || v.Origin == api.HiddenOrigin {
		return "its origin"
	}
	return v.Origin
}

// edits says how much there is to lose: what was nowhere else when that was read, or all that is in use.
func (c *Call) edits(own *int64, at *time.Time, used *int64) string {
	switch {
	case own != nil && at != nil:
		return " (" + Size(*own) + " as of " + ago(*at, c.Now()) + ")"
	case own != nil:
		return " (" + Size(*own) + ")"
	case used != nil:
		return " (" + Size(*used) + " used, blocks of its origin included)"
	}
	return ""
}

// oldName is a name for what was refreshed, within the 40 characters that names may have.
func oldName(name string) string {
	const suffix, longest = "-old", 40
	own := name[strings.LastIndexByte(name, '/')+1:]
	return own[:min(len(own), longest-len(suffix))] + suffix
}
