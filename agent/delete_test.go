package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lls/agent/api"
	"lls/agent/catalog"
	"lls/agent/mount"
)

// No table of a container's init shows a mount in another mount namespace. LVM knows that the device is open, and /proc who has it.
func TestADeletionAsksWhoHasOpenWhatIsMountedNowhere(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sleep", "600") // the agent's own process does not count
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })                                                                           // killed as the context ends
	mine := mount.Holder{PID: child.Process.Pid, Command: "sleep", MountNS: 7, Path: "/data", Kind: mount.HeldMount} // the container's
	file, raw, other := mine, mine, mine
	file.Kind, file.Path = mount.HeldFile, "/data/file"
	raw.Kind, raw.Path = mount.HeldDevice, "/dev/mf/mine"
	other.PID, other.Command = 1, "init" // of the host
	for _, tt := range []struct {
		name  string
		held  []mount.Holder
		open  bool
		admin bool
		want  api.Code
		told  string
	}{
		{"nobody", nil, false, false, "", ""},
		{"by what has no process", nil, true, false, "", ""},
		{"an own mount", []mount.Holder{mine}, true, false, api.Busy, "c1 sleep /data"},
		{"an own file of a mount that was detached", []mount.Holder{file}, true, false, api.Busy, "c1 sleep /data/file"},
		{"a mount of others", []mount.Holder{other}, true, false, "", "another container  "},
		{"both", []mount.Holder{other, mine}, true, false, api.Busy, "c1 sleep /data, another container  "},
		{"the device only", []mount.Holder{raw}, true, false, "", "c1 sleep /dev/mf/mine"},
		{"for the sysadmin, the owner's mount", []mount.Holder{mine}, true, true, api.Busy, "c1 sleep /data"},
		{"for the sysadmin, the host's mount", []mount.Holder{other}, true, true, api.Busy, "host init /data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _, v := refreshScene(t)
			b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
			b.lvm.SetOpen(testVG, b.record(v.ID).LV.Name, tt.open)
			looks := 0
			b.agent.holds = func(context.Context, uint32, uint32) ([]mount.Holder, error) {
				looks++
				return tt.held, nil
			}
			client, name := b.c1, "mine"
			if tt.admin {
				client, name = b.admin, "c1/mine"
			}
			var out api.Volume
			err := client.Post(t.Context(), api.PathDelete, api.NameRequest{Name: name}, &out)
			holders := out.Holders
			if tt.want != "" {
				holders = api.AsError(err).Holders
			}
			var told []string
			for _, h := range holders {
				told = append(told, fmt.Sprintf("%s %s %s", h.Container, h.Command, h.Path))
			}
			if tt.want == "" && err != nil || tt.want != "" && (!tt.want.Is(err) || api.AsError(err).Hint == "") || strings.Join(told, ", ") != tt.told {
				t.Errorf("%v, held by %q; want %q, %q", err, told, tt.want, tt.told)
			}
			r, state := b.record(v.ID), catalog.Trash
			if tt.want != "" {
				state = catalog.Live
			}
			if r.State != state || r.LV.Active != tt.open {
				t.Errorf("afterwards it is %+v", r)
			}
			if want := map[bool]int{true: 1}[tt.open]; looks != want {
				t.Errorf("all of /proc was read %d times, want %d", looks, want)
			}
		})
	}
}

// What one container holds in a namespace of its own is no reason to refuse another owner, who is told.
func TestWhatOthersHoldUnseenGoesToTheTrashAtOnce(t *testing.T) {
	b := newBench(t)
	newKernel(b)
	d := b.post(b.admin, api.PathCreate, api.CreateRequest{Name: "d", Size: "1G", Mount: "/mnt"}, "")
	b.post(b.admin, api.PathUmount, api.UmountRequest{Target: "d"}, "")
	b.lvm.SetOpen(testVG, b.record(d.ID).LV.Name, true)
	b.agent.holds = func(context.Context, uint32, uint32) ([]mount.Holder, error) {
		return []mount.Holder{{PID: os.Getpid(), Command: "sleep", MountNS: 7, Path: "/data", Kind: mount.HeldMount}}, nil
	}
	out := b.post(b.admin, api.PathDelete, api.NameRequest{Name: "d"}, "")
	if out.State != api.StateTrash || len(out.Holders) != 1 || out.Holders[0].Container != "c1" || out.Holders[0].Path != "/data" {
		t.Errorf("%+v", out)
	}
	b.post(b.admin, api.PathMount, api.MountRequest{Name: "d", Path: "/mnt"}, api.NotFound)
}

func TestAPurgeOfWhatIsHeldSaysWhatItsOwnerCanDo(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sleep", "600") // the agent's own process does not count
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() }) // killed as the context ends
	mine := mount.Holder{PID: child.Process.Pid, Command: "sleep", MountNS: 7, Path: "/data", Kind: mount.HeldMount}
	other := mine
	other.PID, other.Command = 1, "init"
	own, asked := "end what uses it, then: lls umount mine", "ask the sysadmin, who sees them: lls-agent info c1/mine."
	alone := "only others have it: try again when they have let go, or " + asked
	for _, tt := range []struct {
		name   string
		held   []mount.Holder
		config string
		keep   string
		admin  bool
		want   string
	}{
		{name: "nobody is known", want: own},
		{name: "by its owner", held: []mount.Holder{mine}, want: own},
		{name: "by both", held: []mount.Holder{other, mine}, want: own},
		{name: "by others", held: []mount.Holder{other}, want: "only others have it: it is purged by itself 7d after they have let go; else try again then, or " + asked},
		{name: "by others, with other times", held: []mount.Holder{other}, config: "[expiry]\ntrash = \"36h\"\n", want: "only others have it: it is purged by itself 1d 12h after they have let go; else try again then, or " + asked},
		{name: "by others, where nothing is purged", held: []mount.Holder{other}, config: "[expiry]\ntrash = \"0\"\n", want: alone},
		{name: "by others, with a lease", held: []mount.Holder{other}, keep: "9d", want: alone},
		{name: "for the sysadmin, who sees all", held: []mount.Holder{other}, admin: true, want: "end what uses it, then: lls umount c1/mine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _, v := refreshScene(t)
			b.post(b.c1, api.PathUmount, api.UmountRequest{Target: "mine"}, "")
			delete(b.agent.guests.all, b.guest1.Key()) // which has no tree to be told in
			b.reload(testConfig + tt.config)
			b.agent.guests.all[b.guest1.Key()] = b.guest1
			if tt.keep != "" {
				b.post(b.c1, api.PathKeep, api.KeepRequest{Name: "mine", For: tt.keep}, "")
			}
			b.agent.holds = func(context.Context, uint32, uint32) ([]mount.Holder, error) { return []mount.Holder{other}, nil }
			b.lvm.SetOpen(testVG, b.record(v.ID).LV.Name, true)
			b.post(b.c1, api.PathDelete, api.NameRequest{Name: "mine"}, "")
			b.agent.holds = func(context.Context, uint32, uint32) ([]mount.Holder, error) { return tt.held, nil }
			client, name := b.c1, "mine"
			if tt.admin {
				client, name = b.admin, "c1/mine"
			}
			e := api.AsError(client.Post(t.Context(), api.PathPurge, api.NameRequest{Name: name}, nil))
			if want := strings.Replace(tt.want, "c1/mine.", "c1/"+string(b.record(v.ID).LV.Name), 1); e.Code != api.Busy || e.Hint != want {
				t.Errorf("%v; %s\nwant %s", e, e.Hint, want)
			}
		})
	}
}
