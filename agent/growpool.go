package agent

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"lls/agent/event/bus"
	"lls/lvm"
	"lls/policy"
)

// group is the volume group of a pool.
func (v *View) group(p policy.Pool) (lvm.Group, bool) {
	for _, g := range v.Groups {
		if string(g.Name) == p.Group {
			return g, true
		}
	}
	return lvm.Group{}, false
}

// partGrown is how much larger a part of a pool has become.
type partGrown struct {
	part    policy.Part
	was, is lvm.Size
}

// tellGrown tells that the agent has had a part grow, and notes its size as seen: with data, that of the metadata as well, which LVM
// extends along with it.
func (g *grower) tellGrown(ctx context.Context, p policy.Pool, grown partGrown, percent float64, why string) {
	a, all, along := g.agent, []partGrown{grown}, ""
	if grown.part == policy.PartData {
		if with := g.metadataNow(ctx, p); with.is > with.was {
			all, along = append(all, with), fmt.Sprintf(", and its metadata, with it, from %s to %s", with.was, with.is)
		}
	}
	a.news(ctx, plainNews, p.Name, fmt.Sprintf("pool %s: %s grew from %s to %s%s, because it was %s full",
		p.Name, grown.part, grown.was, grown.is, along, policy.FormatPercent(percent)), why)
	for _, one := range all {
		a.past.seen(p.Name, one.part, int64(one.is)) // an agent that ends before this is followed by one that tells of it again
	}
	g.keep()
	for _, one := range all {
		a.bus.Emit(bus.Event{Signal: bus.PoolGrown, Object: bus.PoolPath(p.Name), Name: p.Name, Details: map[string]string{
			"Part": string(one.part), "Before": strconv.FormatInt(int64(one.was), 10), "After": strconv.FormatInt(int64(one.is), 10),
		}})
	}
}

// metadataNow is what the metadata was when it was last seen, and is now; nothing where that cannot be read.
func (g *grower) metadataNow(ctx context.Context, p policy.Pool) partGrown {
	v, err := g.agent.store.current(ctx, 0)
	if err != nil {
		return partGrown{}
	}
	lv, _ := findPool(v.Groups, p)
	return partGrown{policy.PartMetadata, lvm.Size(g.agent.past.size(p.Name, policy.PartMetadata)), lv.MetadataSize}
}

// fallbackMargin is how many percent LVM's own growth begins above the agent's, so that the agent is first while it is there.
const fallbackMargin = 5

// Bounds of a fallback that LVM takes.
const (
	fallbackLeast = 50
	fallbackMost  = 99
)

// fallback is how LVM itself is to have the pool grow while the agent is away; the zero value where it must not. It knows neither cap nor
// reserve, and grows both parts by one rule: so it is only for as long as its next step keeps to them. Above its threshold LVM makes no new
// volumes. While it is attached the pool can grow, and passes the threshold for a moment at most; once it cannot, the fallback is gone, and
// what limits.data_percent and metadata_percent say holds alone.
func fallback(g lvm.Group, lv lvm.Pool, rules policy.PoolRules) lvm.Fallback {
	if rules.Data.Threshold <= 0 || rules.Metadata.Threshold <= 0 {
		return lvm.Fallback{}
	}
	threshold := min(max(int(math.Ceil(max(rules.Data.Threshold, rules.Metadata.Threshold)))+fallbackMargin, fallbackLeast), fallbackMost)
	for _, percent := range []int{stepPercent(rules.Data.Step, lv.Size), 1} { // 1 is as little as brings it under the threshold
		f := lvm.Fallback{Threshold: threshold, Percent: percent}
		if keepsTo(f, g, lv, rules) {
			return f
		}
	}
	return lvm.Fallback{}
}

// stepPercent is a step as LVM's share of the size: 1 to 100.
func stepPercent(s policy.Step, size lvm.Size) int {
	percent := s.Percent
	if s.Bytes > 0 && size > 0 {
		percent = float64(s.Bytes) / float64(size) * 100
	}
	return int(min(max(math.Round(percent), 1), 100))
}

// keepsTo says whether one step of both parts keeps to their caps, and to what is to be left free in the group.
func keepsTo(f lvm.Fallback, g lvm.Group, lv lvm.Pool, rules policy.PoolRules) bool {
	data := lv.Size + f.LargestStep(lv.Size, g.ExtentSize)
	metadata := max(lv.MetadataSize+f.LargestStep(lv.MetadataSize, g.ExtentSize), lv.MetadataFor(data).RoundUp(g.ExtentSize))
	spared := lvm.Size(max(rules.Data.Spared(int64(g.Size)), rules.Metadata.Spared(int64(g.Size))))
	return (rules.Data.Cap <= 0 || data <= lvm.Size(rules.Data.Cap)) &&
		metadata <= lvm.MaxPoolMetadata && (rules.Metadata.Cap <= 0 || metadata <= lvm.Size(rules.Metadata.Cap)) &&
		g.ExtendCost(lv.Name, data, metadata) <= g.Free-spared
}

// setFallback attaches or detaches what LVM does while the agent is away. At a start it does so whatever is attached: dmeventd may not
// watch the pool.
func (g *grower) setFallback(ctx context.Context, v *View, p policy.Pool, lv lvm.Pool, rules policy.PoolRules) {
	f := lvm.Fallback{}
	if group, ok := v.group(p); ok {
		f = fallback(group, lv, rules)
	}
	if f != lv.Fallback() || g.refall {
		g.attach(ctx, p, lv, f)
		g.refall = false
	}
}

// detachFirst takes the fallback away where the pool would be too close to its cap with a part grown: LVM, which hears of the growth as
// well, could be quicker with another step than the agent with taking it away.
func (g *grower) detachFirst(ctx context.Context, v *View, p policy.Pool, lv lvm.Pool, part policy.Part, to lvm.Size, rules policy.PoolRules) {
	group, ok := v.group(p)
	if !ok || lv.Fallback() == (lvm.Fallback{}) {
		return
	}
	grown := lv
	if part == policy.PartMetadata {
		group.Free -= group.ExtendCost(lv.Name, 0, to)
		grown.MetadataSize = to
	} else {
		group.Free -= group.ExtendCost(lv.Name, to, 0)
		grown.Size, grown.MetadataSize = to, lv.MetadataFor(to)
	}
	if fallback(group, grown, rules) == (lvm.Fallback{}) {
		g.attach(ctx, p, lv, lvm.Fallback{})
	}
}

// attach has LVM do what f says.
func (g *grower) attach(ctx context.Context, p policy.Pool, lv lvm.Pool, f lvm.Fallback) {
	a := g.agent
	inside, leave := a.gate.insist(ctx)
	defer leave()
	err := a.store.write(inside, lvm.VG(p.Group), func(ctx context.Context, w lvm.Writer, _ *View) (edit, error) {
		defer a.store.forget()
		return nil, w.SetFallback(ctx, lvm.Name(p.LV), f)
	})
	switch {
	case err == nil:
		g.fell = ""
		if f != lv.Fallback() {
			a.log.Info("changed how LVM has a pool grow while the agent is away", "pool", p.Name, "profile", f)
		}
	case ctx.Err() == nil && g.fell != err.Error():
		g.fell = err.Error()
		a.news(ctx, warningNews, p.Name, fmt.Sprintf("pool %s: it would not grow by itself while the agent is away", p.Name), err.Error())
	}
}
