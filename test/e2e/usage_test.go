package e2e

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lls/test/kit"
)

const (
	poolDevice = kit.VG + "-" + kit.PoolLV + "-tpool"
	mega       = 1 << 20
)

// poolStatus are the words of the kernel about the pool: used/all blocks of data are the sixth, the metadata snapshot the seventh.
func poolStatus(t *testing.T) []string {
	t.Helper()
	words := strings.Fields(kit.Must(t, "dmsetup", "status", poolDevice))
	if len(words) < 7 {
		t.Fatalf("the pool's status is %q", words)
	}
	return words
}

// poolChunk is the size of the pool's blocks, in bytes.
func poolChunk(t *testing.T) int64 {
	t.Helper()
	text := kit.Must(t, "lvs", "--noheadings", "--nosuffix", "--units", "b", "-o", "chunk_size", kit.VG+"/"+kit.PoolLV)
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// poolUsed is how many bytes of the pool's data are used.
func poolUsed(t *testing.T) int64 {
	t.Helper()
	used, _, _ := strings.Cut(poolStatus(t)[5], "/")
	n, err := strconv.ParseInt(used, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * poolChunk(t)
}

// listed is what of a list these tests look at.
type listed struct {
	Name    string     `json:"name"`
	Frees   *int64     `json:"frees"`
	FreesAt *time.Time `json:"frees_at"`
}

func frees(t *testing.T, c *kit.Container, name string) *int64 {
	t.Helper()
	var all []listed
	c.LLS(t, "list", "--all", "--json").Want(t, 0).JSON(t, &all)
	for _, v := range all {
		if v.Name == name {
			return v.Frees
		}
	}
	t.Fatalf("%s sees no %s", c.Name, name)
	return nil
}

// measured has the pool read anew, which an agent does when it starts, and gives what purging the container's volume frees.
func measured(t *testing.T, c *kit.Container, name string) (bytes int64) {
	t.Helper()
	kit.KillAgent(t)
	c.WaitReady(t)
	kit.Eventually(t, "the pool is read", func() bool {
		n := frees(t, c, name)
		if n != nil {
			bytes = *n
		}
		return n != nil
	})
	return bytes
}

// fill writes a file that is on disk when it returns.
func fill(t *testing.T, c *kit.Container, path string, megabytes int) {
	t.Helper()
	c.Must(t, "dd", "if=/dev/urandom", "of="+path, "bs=1M", "count="+strconv.Itoa(megabytes), "conv=fsync")
}

func TestFreesIsWhatAPurgeGivesBack(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/fresh")
	purgeAfter(t, w.alice, "fresh")
	chunk := poolChunk(t)
	w.alice.Do(t, "snapshot", dataset, "fresh")
	if got := measured(t, w.alice, "fresh"); got > 2*chunk {
		t.Errorf("a fresh snapshot frees %d", got)
	}
	if got := frees(t, w.alice, dataset); got != nil {
		t.Errorf("alice is told what the host's volume frees: %d", *got)
	}
	w.alice.Do(t, "mount", "fresh", "/fresh")
	fill(t, w.alice, "/fresh/file", 16)
	w.alice.Do(t, "umount", "fresh")
	got := measured(t, w.alice, "fresh")
	if got < 16*mega || got > 24*mega {
		t.Errorf("with 16 MiB written it frees %d", got)
	}
	if text := w.alice.Do(t, "list"); !strings.Contains(text, "FREES") {
		t.Errorf("the list has no FREES:\n%s", text)
	}
	if text := w.alice.Do(t, "info", "fresh"); !strings.Contains(text, "frees:") {
		t.Errorf("info has no frees:\n%s", text)
	}
	before := poolUsed(t)
	w.alice.Purge(t, "fresh")
	var fell int64
	kit.Eventually(t, "the pool has the space back", func() bool {
		fell = before - poolUsed(t)
		return fell >= got-2*chunk
	})
	if fell > got+2*chunk {
		t.Errorf("the purge gave %d back, not %d", fell, got)
	}
}

func TestExclusiveCountsWhatAnOwnersVolumesShare(t *testing.T) {
	w := lab(t)
	dirs(t, w.alice, "/base")
	own(t, w.alice, "base", "--mount", "/base")
	purgeAfter(t, w.alice, "twin")
	fill(t, w.alice, "/base/file", 12)
	w.alice.Do(t, "umount", "base")
	w.alice.Do(t, "snapshot", "base", "twin", "--visible")
	alone := measured(t, w.alice, "base")
	if twin := frees(t, w.alice, "twin"); twin == nil || *twin+alone > 4*mega {
		t.Errorf("base frees %d, twin %v", alone, twin)
	}
	usage := func() (bytes, most int64) {
		var all []struct {
			Exclusive    *int64     `json:"exclusive"`
			ExclusiveMax int64      `json:"exclusive_max"`
			At           *time.Time `json:"exclusive_at"`
		}
		w.alice.LLS(t, "usage", "--json").Want(t, 0).JSON(t, &all)
		if len(all) != 1 || all[0].Exclusive == nil || all[0].At == nil {
			t.Fatalf("usage: %+v", all)
		}
		return *all[0].Exclusive, all[0].ExclusiveMax
	}
	if got, _ := usage(); got < 12*mega {
		t.Errorf("alice alone has %d", got)
	}
	var bobs []listed
	w.bob.LLS(t, "list", "--json").Want(t, 0).JSON(t, &bobs)
	seen := false
	for _, v := range bobs {
		if v.Name == "alice/twin" {
			seen = true
			if v.Frees != nil {
				t.Errorf("bob is told what alice's volume frees: %d", *v.Frees)
			}
		}
	}
	if !seen {
		t.Errorf("bob does not see alice/twin: %+v", bobs)
	}
	kit.WithConfig(t, "\n[[rules]]\ncontainer = \"alice\"\nlimits.exclusive = \"10M\"\n")
	if _, most := usage(); most != 10*mega {
		t.Errorf("the limit is %d", most)
	}
	w.alice.LLS(t, "create", "more", "--size", "64M").WantError(t, 13, "exclusive")
	kit.Eventually(t, "the container's notice tells of it", func() bool {
		return strings.Contains(w.alice.Exec(t, "cat", "/lls/NOTICE").Stdout, "10M is allowed")
	})
	// Nobody is refused for what he has purged.
	w.alice.Purge(t, "base", "twin")
	kit.KillAgent(t)
	w.alice.WaitReady(t)
	own(t, w.alice, "more")
}

// slowDump has thin_dump wait before it starts, until the function that it returns is called.
func slowDump(t *testing.T) (undo func()) {
	t.Helper()
	dir := t.TempDir()
	tools := kit.Must(t, "sh", "-c", "readlink -f $(command -v thin_dump)") // one program under many names
	kit.Must(t, "cp", tools, dir+"/tools")
	for _, name := range []string{"thin_dump", "thin_check", "thin_repair", "thin_restore"} {
		kit.Must(t, "ln", "-s", "tools", dir+"/"+name)
	}
	script := "#!/bin/sh\nname=$(basename \"$0\")\n[ $name != thin_dump ] || sleep 20\nexec " + dir + "/$name \"$@\"\n"
	if err := os.WriteFile(dir+"/slow", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	kit.Must(t, "mount", "--bind", dir+"/slow", tools)
	undo = sync.OnceFunc(func() { kit.Must(t, "umount", "--lazy", tools) }) // what runs goes on
	t.Cleanup(undo)
	return undo
}

// The agent is killed while it reads the pool, which takes a while since the program that does so has to wait first.
func TestTheMetadataSnapshotOfAKilledAgentIsReleased(t *testing.T) {
	w := lab(t)
	own(t, w.alice, "some")
	free := slowDump(t)
	kit.KillAgent(t)
	kit.Eventually(t, "the agent takes a metadata snapshot", func() bool { return poolStatus(t)[6] != "-" })
	free()
	kit.KillAgent(t)
	w.alice.WaitReady(t)
	kit.Eventually(t, "the metadata snapshot is released and the pool read", func() bool {
		return poolStatus(t)[6] == "-" && frees(t, w.alice, "some") != nil
	})
	if _, err := os.Stat("/var/lib/lls/thin/" + poolDevice); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still written down: %v", err)
	}
}
