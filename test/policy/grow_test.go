package policy

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lls/test/kit"
)

// rule gives the pool a cap.
func rule(dataCap int64) string {
	return fmt.Sprintf("\n[[rules]]\npool = \"main\"\ngrowth.data = { cap = \"%dM\", cooldown = \"1s\" }\ngrowth.metadata.cooldown = \"1s\"\ngrowth.volume.cooldown = \"1s\"\n", dataCap/mib)
}

// attached waits until LVM's own growth is set up as it should be.
func attached(t *testing.T, profile string) {
	t.Helper()
	kit.Eventually(t, "the pool's profile is "+profile, func() bool { return look(t).profile == profile })
}

func TestAPoolGrowsUnderAWriterUpToItsCap(t *testing.T) {
	scene(t)
	before := look(t)
	limit := 3 * before.size
	kit.WithConfig(t, rule(limit))
	attached(t, "lls-85-20")
	dir := volume(t, "fast", "4G")
	blocks := int(limit/mib) * 81 / 100 // with what ext4 takes, still below where LVM would grow it once more
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- write(filepath.Join(dir, "data"), blocks) }()
	var sizes []int64
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("a write failed before the cap: %v; the pool is %+v", err, look(t))
			}
			running = false
		case <-time.After(50 * time.Millisecond):
		}
		if p := look(t); len(sizes) == 0 || sizes[len(sizes)-1] != p.size {
			sizes = append(sizes, p.size)
		}
	}
	took := time.Since(began)
	defer func() {
		if t.Failed() {
			t.Logf("the pool went through %v to %+v\n%s", sizes, look(t), kit.Must(t, "journalctl", "-b", "-u", kit.Unit, "-u", "dm-event", "-o", "short-precise", "--no-pager"))
		}
	}()
	kit.Eventually(t, "the pool has its cap", func() bool { return look(t).size >= limit })
	p := look(t)
	full := p.size
	t.Logf("%d MiB in %v, the pool went through %v to %+v", blocks, took.Round(time.Millisecond), sizes, p)
	if full > limit*12/10 { // a step of LVM's, which knows no cap, may have been under way
		t.Errorf("it has %d", full)
	}
	if len(sizes) < 3 || p.health != "" {
		t.Errorf("it did not grow in steps, or is not well")
	}
	written(t, filepath.Join(dir, "data"), blocks)
	attached(t, "") // LVM knows no cap
	time.Sleep(2 * time.Second)
	if now := look(t); now.size != full {
		t.Errorf("it grew beyond its cap, to %+v", now)
	}

	// No mail server ran until now.
	if r := kit.Agent(t, "mail", "test"); r.Exit == 0 || !strings.Contains(r.Stderr, "connection refused") {
		t.Errorf("without a mail server a test says: %v", r)
	}
	kit.Eventually(t, "the status tells of mail", func() bool {
		s := kit.Agent(t, "status").Want(t, 0).Stdout
		return strings.Contains(s, "waiting") && strings.Contains(s, "connection refused")
	})
	server(t)
	kit.Agent(t, "mail", "test").Want(t, 0)
	kit.Agent(t, "reload").Want(t, 0) // which has what waits tried at once
	// It may have been LVM that was quicker, as the writer is faster than anybody on a busy machine.
	n := mailed(t, "pool main: data grew from 256M to", "left in the group:", "forecast:", "pool main: data cannot grow")
	t.Logf("the mail:\n%s", strings.Join(mails(t), "\n"))
	if n != 1 {
		t.Errorf("the first growth was mailed %d times", n)
	}
	kit.Eventually(t, "nothing waits any more", func() bool { return !strings.Contains(kit.Agent(t, "status").Stdout, "waiting") })
	stopServer(t)
	rest := startWriting(filepath.Join(dir, "rest"), int(full/mib)-blocks+64)
	p = rest.untilItWaits(t) // the kernel holds writes back for a minute before it fails them
	t.Logf("%d MiB later a write waits; the pool is %+v", rest.done.Load(), p)
	if p.data < 100 || p.size != full || p.health != "" && !strings.Contains(p.health, "out_of_data") {
		t.Errorf("a write waits before the cap is filled; the pool is %+v", p)
	}
	kit.WithConfig(t, rule(full+128*mib)) // while the mail server is down, there is more to tell
	rest.end(t)
	if p := look(t); p.size <= full || p.health != "" {
		t.Errorf("with a larger cap the pool is %+v", p)
	}
	written(t, filepath.Join(dir, "data"), blocks)
	written(t, rest.file, rest.blocks)
	kit.Must(t, "systemctl", "start", "postfix.service")
	mailed(t, fmt.Sprintf("data grew from %dM to", full/mib))
}

// metadataRule gives the metadata a cap, and a level from which on nothing new is made that does not take long to reach.
func metadataRule(most int64) string {
	return rule(8<<30) + fmt.Sprintf("growth.metadata.cap = \"%dM\"\nlimits.metadata_percent = 74.0\n", most/mib)
}

// refusal makes a snapshot, or tells why there is none for good. LLS, by what it knows, and LVM, by what is, may both refuse one a moment
// before metadata grows; that is no reason for good.
func refusal(t *testing.T, origin, name string, limit int64) (why string) {
	t.Helper()
	kit.Eventually(t, "a snapshot is made, or is refused for good", func() bool {
		r := kit.Agent(t, "snapshot", origin, name)
		if why = r.Stderr; r.Exit == 0 {
			why = ""
			return true
		}
		r.WantError(t, 13)
		p := look(t)
		return p.metadata == limit && p.metadataFilled >= 74 && strings.Contains(why, "limits.metadata_percent")
	})
	return why
}

func TestMetadataGrowsUnderScatteredWritesUpToItsCap(t *testing.T) {
	scene(t)
	before := look(t)
	limit := 2 * before.metadata
	kit.WithConfig(t, metadataRule(limit))
	s := newScatter(t, "scattered")
	_, id, _ := strings.Cut(kit.FindLV(t, "host", "scattered").Name, ".")
	t.Cleanup(func() { kit.Must(t, "lvremove", "-q", "-f", "@lls.p="+id) }) // all snapshots at once
	rounds, refused := 0, ""
	for ; rounds < 100 && refused == ""; rounds++ {
		refused = refusal(t, "scattered", fmt.Sprintf("s%d", rounds), limit)
		s.write(t)
		if p := look(t); p.metadata < limit && (p.metadataFilled > 97 || p.health != "") {
			t.Fatalf("round %d: metadata is %+v", rounds, p)
		}
	}
	p := look(t)
	t.Logf("%d rounds; the pool was %+v and is %+v; %s", rounds, before, p, refused)
	if p.metadata != limit || p.metadataFilled < 74 || p.health != "" {
		t.Errorf("metadata has not reached its cap of %d, or is not well: %+v", limit, p)
	}
	time.Sleep(2 * time.Second)
	s.write(t) // what is there goes on
	if p := look(t); p.metadata != limit || p.health != "" {
		t.Errorf("it grew beyond its cap, to %+v", p)
	}
	attached(t, "") // LVM knows no cap
	server(t)
	kit.Agent(t, "reload").Want(t, 0)
	mailed(t, "pool main: metadata grew from", "because it was", "pool main: metadata cannot grow", "does not grow by itself beyond")
}

func TestLVMGrowsThePoolWhileTheAgentIsDead(t *testing.T) {
	scene(t)
	kit.WithConfig(t, rule(7<<30))
	attached(t, "lls-85-20")
	before := look(t)
	dir := volume(t, "alone", "6G")
	killForGood(t)
	blocks := int(float64(before.size)*(1.5-before.data/100)) / mib
	file := filepath.Join(dir, "data")
	if err := write(file, blocks); err != nil {
		t.Fatalf("a write failed: %v; the pool is %+v", err, look(t))
	}
	p := look(t)
	t.Logf("%d MiB without the agent; the pool was %+v and is %+v", blocks, before, p)
	if p.size <= before.size || p.health != "" {
		t.Errorf("it did not grow")
	}
	written(t, file, blocks)
	server(t)
	kit.StartAgent(t)
	mailed(t, fmt.Sprintf("pool main: data grew from %s to", human(before.size)), "while the agent was away", "dmeventd, whose profile lls-85-20")
}

// TestLVMGrowsMetadataWhileTheAgentIsDead has the sysadmin make the snapshots by hand, as nobody else is there to do so.
func TestLVMGrowsMetadataWhileTheAgentIsDead(t *testing.T) {
	scene(t)
	kit.WithConfig(t, rule(8<<30)+"[[rules]]\npool = \"main\"\ngrowth.data.threshold = 50.0\ngrowth.metadata.threshold = 50.0\n")
	s := newScatter(t, "lonely")
	attached(t, "lls-55-20")
	lv := kit.FindLV(t, "host", "lonely").Name
	killForGood(t)
	before := look(t)
	if before.metadataFilled >= 55 {
		t.Fatalf("it is too full already: %+v", before)
	}
	t.Cleanup(func() { kit.Must(t, "lvremove", "-q", "-f", "@byhand") })
	rounds := 0
	for ; rounds < 80 && look(t).metadataFilled < 55; rounds++ {
		name := fmt.Sprintf("byhand%d", rounds)
		kit.Must(t, "lvcreate", "-q", "-s", "--addtag", "byhand", "-n", name, group+"/"+lv)
		s.write(t)
	}
	kit.Eventually(t, "LVM has metadata grow", func() bool { return look(t).metadata > before.metadata })
	p := look(t)
	t.Logf("%d rounds without the agent; the pool was %+v and is %+v", rounds, before, p)
	if p.health != "" {
		t.Errorf("the pool is %+v", p)
	}
	server(t)
	kit.StartAgent(t)
	mailed(t, fmt.Sprintf("pool main: metadata grew from %s to", human(before.metadata)), "while the agent was away", "dmeventd, whose profile lls-55-20")
}

// human is a size as LLS writes it.
func human(size int64) string {
	if size < 1<<30 {
		return fmt.Sprintf("%dM", size/mib)
	}
	text := fmt.Sprintf("%.2f", float64(size)/(1<<30))
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "G"
}

func TestAVolumeGrowsUnderAWriterInAContainer(t *testing.T) {
	scene(t)
	kit.WithConfig(t, rule(7<<30))
	c := kit.TempContainer(t, "grower")
	c.Must(t, "mkdir", "-p", "/data")
	c.Do(t, "create", "mine", "--size", "128M", "--mount", "/data")
	t.Cleanup(func() {
		c.LLS(t, "umount", "mine")
		c.LLS(t, "delete", "mine")
		c.LLS(t, "purge", "mine", "--yes")
	})
	c.LLS(t, "set", "mine", "--grow-to", "64M").WantError(t, 2, "it has 128M already")
	c.Do(t, "set", "mine", "--grow-to", "320M")
	size := func() int64 { return kit.FindLV(t, "grower", "mine").Bytes(t) }
	// A writer that is faster than the growth waits for it; that it need not is no promise.
	c.Sh(t, "i=0; n=0; while [ $i -lt 250 ]; do until dd if=/dev/zero of=/data/f$i bs=1M count=1 conv=fsync 2>/dev/null; do n=$((n+1)); [ $n -lt 60 ] || exit 1; sleep 1; done; i=$((i+1)); sleep 0.2; done")
	kit.Eventually(t, "the volume has its most", func() bool { return size() == 320*mib })
	if n := c.Sh(t, "ls /data | grep -c ^f"); n != "250" {
		t.Errorf("there are %s files", n)
	}
	t.Logf("in the container: %s", c.Must(t, "df", "/data"))
	if r := c.Exec(t, "dd", "if=/dev/zero", "of=/data/more", "bs=1M", "count=100"); r.Exit == 0 {
		t.Error("there is more room than it may have")
	}
	kit.Eventually(t, "the container is told", func() bool { return strings.Contains(c.Exec(t, "cat", "/lls/NOTICE").Stdout, "mine is ") })
	t.Logf("NOTICE: %s", c.Must(t, "cat", "/lls/NOTICE"))
	if size() != 320*mib {
		t.Errorf("it has %d bytes", size())
	}
	server(t)
	kit.Agent(t, "reload").Want(t, 0)
	mailed(t, "grower/mine grew from 128M to", "grower/mine cannot grow")
}
