package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/filesystem"
	"lls/agent/mount"
	"lls/lvm"
	"lls/policy"
)

// How old a report may be. What the agent changes itself is in it at once; this is for changes behind its back. A name that is not
// found is looked up in a new report before anybody is told so.
const (
	listAge = time.Second
	workAge = 30 * time.Second
)

// endpoint is one request that can be made, who may make it, and what answers it.
type endpoint struct {
	method, path string
	admin        bool   // on the sysadmin's socket only
	doing        string // for errors: "cannot DOING: why"
	run          func(ctx context.Context, c *call, body []byte) (any, error)
}

// endpoints is the whole list. An endpoint that is not marked admin is everybody's, and every volume it touches goes through
// call.volume, which checks the caller's rights.
func endpoints() []endpoint {
	return []endpoint{
		{http.MethodGet, api.PathInfo, false, "tell who answers", get((*call).serverInfo)},
		{http.MethodGet, api.PathVolumes, false, "list volumes", get((*call).list)},
		{http.MethodGet, api.PathVolume, false, "show a volume", get((*call).info)},
		{http.MethodGet, api.PathUsage, false, "tell the usage", get((*call).usage)},
		{http.MethodGet, api.PathWatch, false, "watch", get((*call).watch)},
		{http.MethodPost, api.PathCreate, false, "create a volume", post((*call).create)},
		{http.MethodPost, api.PathSnapshot, false, "snapshot a volume", post((*call).snapshot)},
		{http.MethodPost, api.PathMount, false, "mount a volume", post((*call).mount)},
		{http.MethodPost, api.PathReplay, false, "replay the fstab", post((*call).replayNow)},
		{http.MethodPost, api.PathUmount, false, "unmount a volume", post((*call).umount)},
		{http.MethodPost, api.PathResize, false, "resize a volume", post((*call).resize)},
		{http.MethodPost, api.PathSet, false, "set a volume", post((*call).set)},
		{http.MethodPost, api.PathDelete, false, "delete a volume", post((*call).remove)},
		{http.MethodPost, api.PathUndelete, false, "undelete a volume", post((*call).undelete)},
		{http.MethodPost, api.PathKeep, false, "keep a volume", post((*call).keep)},
		{http.MethodPost, api.PathTrim, false, "trim volumes", post((*call).trimNow)},
		{http.MethodPost, api.PathPurge, false, "purge a volume", post((*call).purge)},
		{http.MethodPost, api.PathRefresh, false, "refresh a volume", post((*call).refresh)},
		{http.MethodGet, api.PathStatus, true, "tell the status", get((*call).status)},
		{http.MethodGet, api.PathContainers, true, "list containers", get((*call).containers)},
		{http.MethodGet, api.PathExplain, true, "explain a volume", get((*call).policyExplain)},
		{http.MethodGet, api.PathDryRun, true, "tell what would happen", get((*call).dryRun)},
		{http.MethodPost, api.PathGive, true, "give volumes", post((*call).give)},
		{http.MethodPost, api.PathRevoke, true, "revoke a right", post((*call).revoke)},
		{http.MethodPost, api.PathReload, true, "reload", post((*call).reload)},
		{http.MethodPost, api.PathMailTest, true, "send a test mail", post((*call).mailTest)},
		{http.MethodPost, api.PathHookStart, true, "serve a container", post((*call).hookStart)},
	}
}

func get[Out any](run func(*call, context.Context) (Out, error)) func(context.Context, *call, []byte) (any, error) {
	return func(ctx context.Context, c *call, _ []byte) (any, error) { return run(c, ctx) }
}

func post[In, Out any](run func(*call, context.Context, In) (Out, error)) func(context.Context, *call, []byte) (any, error) {
	return func(ctx context.Context, c *call, body []byte) (any, error) {
		var in In
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		return run(c, ctx, in)
	}
}

// call is one request under way.
type call struct {
	agent   *Agent
	guest   *guest // nil: the sysadmin's
	asker   catalog.Asker
	peer    peer
	config  *policy.Config
	request *http.Request
	answer  *answer
	what    string // for the journal: what was done to what
	doing   string // for errors: the verb and, once it is known, the name
	// defined is which owners have a container, once that was needed.
	defined *defined
}

// progress tells whoever waits for the answer. A call of the agent's own has nobody who does.
func (c *call) progress(format string, args ...any) {
	if c.answer != nil {
		c.answer.progress(fmt.Sprintf(format, args...))
	}
}

// volume finds the volume that ref names for the caller, and checks that the caller may do action with it. It is the only way
// for an endpoint to come by a volume that a request names. verb is for the error: "cannot VERB NAME: why".
func (c *call) volume(ctx context.Context, verb, ref string, action catalog.Action, trash bool) (*catalog.Record, *View, error) {
	parsed, err := catalog.ParseRef(ref)
	if err != nil {
		return nil, nil, badName(verb, err)
	}
	c.doing = verb + " " + ref
	r, v, err := c.find(ctx, parsed, trash)
	if errors.Is(err, catalog.ErrNotFound) {
		e := api.Errorf(api.NotFound, "cannot %s %s: there is no such volume", verb, ref)
		if trash {
			e = api.Errorf(api.NotFound, "cannot %s %s: there is no such volume in the trash", verb, ref)
		}
		return nil, nil, e
	}
	if errors.Is(err, catalog.ErrAmbiguous) {
		return nil, nil, api.Errorf(api.Malformed, "cannot %s %s: %v", verb, ref, err).WithHint("see the tokens: lls list --all")
	}
	if err != nil {
		return nil, nil, err
	}
	if refused := r.May(c.asker, action, verb, v.Catalog.Shown(c.asker, r)); refused != nil {
		return nil, nil, refused
	}
	c.what = r.Owner.String() + "/" + string(r.LV.Name)
	return r, v, nil
}

// find looks in the view at hand, and in a new one before it says that there is nothing.
func (c *call) find(ctx context.Context, ref catalog.Ref, trash bool) (*catalog.Record, *View, error) {
	for _, age := range []time.Duration{workAge, listAge} {
		v, err := c.agent.store.current(ctx, age)
		if err != nil {
			return nil, nil, err
		}
		r, err := v.Catalog.Find(c.asker, ref, trash)
		if !errors.Is(err, catalog.ErrNotFound) {
			return r, v, err
		}
	}
	return nil, nil, catalog.ErrNotFound
}

func badName(verb string, err error) *api.Error {
	why := strings.TrimSuffix(err.Error(), ": "+catalog.ErrBadName.Error())
	return api.Errorf(api.Malformed, "cannot %s a volume of that name: %s", verb, why).
		WithHint("names are 1 to %d of A-Z a-z 0-9 . _ + - and begin with a letter or digit; another owner's volume is OWNER/NAME", catalog.MaxName)
}

// explain makes of any error what its asker may know. The causes stay for the journal.
func (c *call) explain(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		if c.asker.Admin && e.Detail != nil && !strings.Contains(e.Message, e.Detail.Error()) && (e.Code == api.Failed || e.Code == api.NeedsAdmin) {
			told := *e
			told.Message += ": " + e.Detail.Error() // the sysadmin may know
			return &told
		}
		return e
	}
	var depend *lvm.DependentsError
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		e = api.Errorf(api.Busy, "cannot %s now: the host took too long", c.doing).WithHint("try again; see whether it was done: lls list")
	case errors.Is(err, filesystem.ErrSlow): // at once, since it has not answered for long
		e = api.Errorf(api.Busy, "cannot %s: its file system does not answer", c.doing).WithHint("if it is frozen: fsfreeze -u, then try again")
	case errors.Is(err, lvm.ErrThreshold):
		e = api.Errorf(api.Full, "cannot %s now: the pool is filling, and LVM makes nothing new in it until it has grown", c.doing).
			WithHint("it grows by itself, so try again in a moment; if it does not, lls-agent status tells the sysadmin why")
	case errors.Is(err, lvm.ErrPoolFull) || errors.Is(err, lvm.ErrNoSpace):
		e = api.Errorf(api.Full, "cannot %s: the pool has no room", c.doing).WithHint("purge what is not needed: lls purge NAME --yes; or ask the sysadmin to have it grow")
	case errors.As(err, &depend):
		e = api.Errorf(api.Busy, "cannot %s: other volumes depend on it", c.doing).WithHint("ask the sysadmin which: lls-agent info NAME")
		if c.asker.Admin {
			e = api.Errorf(api.Busy, "%v", depend).WithHint("remove those first: lvremove VG/LV")
		}
	case errors.Is(err, lvm.ErrOpen):
		e = api.Errorf(api.Busy, "cannot %s: it is in use", c.doing)
	case errors.Is(err, mount.ErrGone):
		e = api.Errorf(api.Busy, "cannot %s: the container has ended", c.doing)
	case errors.Is(err, lvm.ErrNotFound):
		e = api.Errorf(api.NotFound, "cannot %s: the volume has just gone", c.doing)
	case errors.Is(err, lvm.ErrNoGroup) || errors.Is(err, lvm.ErrNoPool):
		e = api.Errorf(api.NeedsAdmin, "cannot %s: the pool is not there", c.doing)
	default:
		e = api.Errorf(api.Failed, "cannot %s: something failed on the host", c.doing)
	}
	e.Detail = err
	if c.asker.Admin && depend == nil {
		e.Message = "cannot " + c.doing + ": " + err.Error()
	}
	return e
}
