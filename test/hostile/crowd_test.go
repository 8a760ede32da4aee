package hostile

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lls/test/kit"
)

func TestOnlyTheContainersRootIsHeard(t *testing.T) {
	scene(t)
	if r := as(t, plain, "ask", "GET", "/1.0/", ""); !strings.Contains(r.Stdout, `"you":"plain"`) {
		t.Errorf("the container's root: %v", r)
	}
	for _, guise := range [][]string{
		{"as-user", "ask", "GET", "/1.0/volumes", ""},
		{"as-user", "ask", "POST", "/1.0/snapshot", `{"source":"base","name":"stolen"}`},
		{"as-user", "as-nested", "ask", "GET", "/1.0/volumes", ""},
	} {
		for _, c := range []*kit.Container{plain, power} {
			if r := as(t, c, guise[0], guise[1:]...); !strings.Contains(r.Stdout, `"code":"denied"`) || strings.Contains(r.Stdout, dataset) {
				t.Errorf("%s as %v: %v", c.Name, guise, r)
			}
		}
	}
	// What a container says of itself counts for nothing: the socket is who it is.
	if r := as(t, plain, "ask", "POST", "/1.0/create", `{"name":"gift","size":"64M","owner":"tame"}`); !strings.Contains(r.Stdout, `"code":"denied"`) {
		t.Errorf("for another owner: %v", r)
	}
	for _, path := range []string{"status", "containers", "give", "reload", "hook/start"} {
		if r := as(t, power, "ask", "POST", "/1.0/"+path, "{}"); !strings.Contains(r.Stdout, `"code":"malformed"`) {
			t.Errorf("the sysadmin's %s: %v", path, r)
		}
	}
	if len(kit.FindLVs(t, "", "stolen"))+len(kit.FindLVs(t, "", "gift")) != 0 {
		t.Error("a refused request left a volume")
	}
}

func TestASecondRequestDoesNotWaitForALongOne(t *testing.T) {
	scene(t)
	done := make(chan kit.Result, 3)
	for i := range cap(done) {
		go func() {
			r, _ := kit.Try(t.Context(), kit.Patience, "", "lab-exec", plain.Name, "lls", "create", fmt.Sprintf("big%d", i), "--size", "2T")
			done <- r
		}()
	}
	time.Sleep(500 * time.Millisecond)
	for _, c := range []*kit.Container{plain, more} {
		if r := c.LLS(t, "list").Want(t, 0); r.Took > normal {
			t.Errorf("a list in %s took %v", c.Name, r.Took)
		}
	}
	othersWork(t, "while big file systems are made")
	for range cap(done) {
		if r := <-done; r.Exit != 0 {
			t.Errorf("%v", r)
		}
	}
	for i := range cap(done) {
		plain.Purge(t, fmt.Sprintf("big%d", i))
	}
}

func TestFiftyClientsLeaveExactlyWhatTheirAnswersSay(t *testing.T) {
	scene(t)
	before := agentHolds(t)
	all := []*kit.Container{tame, plain, power, more}
	type outcome struct {
		c *kit.Container
		r kit.Result
	}
	done := make(chan outcome, len(all))
	for _, c := range all {
		go func() {
			r, _ := kit.Try(t.Context(), kit.Patience, "", "lab-exec", c.Name, program, "part:clients", "13")
			done <- outcome{c, r}
		}()
	}
	want, got := map[string]string{}, map[string]string{}
	for range all {
		o := <-done
		var states map[string]string
		o.r.Want(t, 0).JSON(t, &states)
		for name, state := range states {
			want[o.c.Name+"/"+name] = state
		}
		if len(states) < 5 {
			t.Errorf("hardly anything worked in %s: %v", o.c.Name, o.r)
		}
	}
	for _, v := range kit.LVs(t) {
		owner, _, _ := strings.Cut(v.Tag("lls.o"), "#")
		if owner == "" || owner == "host" {
			continue
		}
		state, _, _ := strings.Cut(v.Tag("lls.s"), ":")
		for _, c := range all {
			for _, m := range c.Mounts(t) {
				if m.Device == v.Device() && c.Name == owner && state == "live" {
					state = "mounted"
				}
			}
		}
		got[owner+"/"+v.Tag("lls.n")] = state
	}
	for name, state := range want {
		if got[name] != state {
			t.Errorf("%s: the answers say %q, LVM and the mount tables say %q", name, state, got[name])
		}
	}
	for name, state := range got {
		if want[name] == "" {
			t.Errorf("%s is %q, and no answer said so", name, state)
		}
	}
	nothingHalfMade(t)
	for name, state := range want {
		owner, name, _ := strings.Cut(name, "/")
		if state == "mounted" {
			kit.Agent(t, "umount", owner+"/"+name, "--container", owner).Want(t, 0)
		}
		kit.Purge(t, owner+"/"+name)
	}
	before.letsGo(t)
}

func TestQuotasHoldWhenFiftyAskAtOnce(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[limits]\nvolumes = 6\nsnapshots = 4\nsize = \"2G\"\n")
	ask := func(want int, args ...string) {
		t.Helper()
		var counts map[int]int
		as(t, more, "many", append([]string{"50"}, args...)...).Want(t, 0).JSON(t, &counts)
		if counts[0] != want || counts[13] != 50-want {
			t.Errorf("%v: %v, want %d done and the others 13", args, counts, want)
		}
	}
	owned := func() (n int, size int64) {
		for _, v := range kit.LVs(t) {
			if strings.HasPrefix(v.Tag("lls.o"), "more#") {
				n++
				size += v.Bytes(t)
			}
		}
		return n, size
	}
	ask(4, "snapshot", dataset, "q{}")
	ask(2, "create", "c{}", "--size", "65M")
	if n, size := owned(); n != 6 || size > 2<<30 {
		t.Errorf("%d volumes of %d bytes", n, size)
	}
	purgeAll(t, "more")
	ask(3, "create", "s{}", "--size", "600M") // 3 fit into 2G
	if n, size := owned(); n != 3 || size > 2<<30 {
		t.Errorf("%d volumes of %d bytes", n, size)
	}
	purgeAll(t, "more")
}

func TestRatesHoldWhenFiftyAskAtOnce(t *testing.T) {
	scene(t)
	kit.WithConfig(t, "\n[[rules]]\ncontainer = \"more\"\nlimits = { operations_per_minute = 20 }\n[[rules]]\ncontainer = \"pl*\"\nlimits = { snapshots_per_minute = 5 }\n")
	var counts map[int]int
	as(t, more, "many", "50", "set", "nothing", "--access", "rw").Want(t, 0).JSON(t, &counts)
	if counts[10] != 20 || counts[13] != 30 {
		t.Errorf("of 50 requests: %v, want 20 done (and told that there is no such volume) and the others 13", counts)
	}
	more.LLS(t, "set", "nothing", "--access", "rw").WantError(t, 13, "limits.operations_per_minute allows 20", "try again in ")
	more.LLS(t, "list").Want(t, 0)
	counts = nil
	as(t, plain, "many", "50", "snapshot", dataset, "r{}").Want(t, 0).JSON(t, &counts)
	n := 0
	for _, v := range kit.LVs(t) {
		if strings.HasPrefix(v.Tag("lls.o"), plain.Name+"#") {
			n++
		}
	}
	if counts[0] != 5 || counts[13] != 45 || n != 5 {
		t.Errorf("of 50 snapshots: %v and %d volumes, want 5 done and the others 13", counts, n)
	}
	othersWork(t, "while two containers may not")
	purgeAll(t, plain.Name)
}

// purgeAll takes away all that a container has.
func purgeAll(t *testing.T, owner string) {
	t.Helper()
	for _, v := range kit.LVs(t) {
		if strings.HasPrefix(v.Tag("lls.o"), owner+"#") {
			kit.Purge(t, owner+"/"+v.Tag("lls.n"))
		}
	}
}

func TestFloodsAreTheirOwnContainersLoss(t *testing.T) {
	scene(t)
	before := agentHolds(t)
	const lasting = "40" // seconds, if nobody ends it: twice what is normal for others
	for _, flood := range [][]string{
		{"hold", "1000", lasting},
		{"drip", "500", lasting},
		{"unread", "200", lasting},
		{"stall", "200", lasting},
		{"as-user", "stall", "200", lasting},
		{"many", "150", "set", "nothing", "--access", "rw"},
		{"many", "150", "list", "--json"},
	} {
		done := make(chan kit.Result, 1)
		go func() {
			r, _ := kit.Try(t.Context(), kit.Patience, "", append([]string{"lab-exec", plain.Name, program, "part:" + flood[0]}, flood[1:]...)...)
			done <- r
		}()
		time.Sleep(time.Second)
		if r := more.LLS(t, "list").Want(t, 0); r.Took > normal {
			t.Errorf("during %v a list took %v", flood, r.Took)
		}
		othersWork(t, fmt.Sprintf("during %v", flood))
		if held := agentHolds(t); held.files > 1000 {
			t.Errorf("during %v the agent holds %+v", flood, held)
		}
		if flood[len(flood)-1] == lasting {
			plain.Exec(t, "killall", "-9", filepath.Base(program)) // unless the agent has let all of them go
		}
		if r := <-done; r.Exit != 0 && r.Exit != 128+int(syscall.SIGKILL) {
			t.Errorf("%v", r)
		}
		kit.Eventually(t, fmt.Sprintf("after %v the container is served", flood), func() bool { return plain.LLS(t, "usage").Exit == 0 })
	}
	r := as(t, plain, "body", strconv.Itoa(100<<20)).Want(t, 0)
	if sent, err := strconv.Atoi(strings.TrimSpace(r.Stdout)); err != nil || sent > 8<<20 {
		t.Errorf("of a body of 100 MB the agent read: %v", r)
	}
	worksAgain(t, plain)
	before.letsGo(t)
}

func TestNobodyKeepsTheContainersRootOut(t *testing.T) {
	scene(t)
	before := agentHolds(t)
	const lasting = "30" // seconds: more than is normal
	during := func(part ...string) func() kit.Result {
		done := make(chan kit.Result, 1)
		go func() {
			r, _ := kit.Try(t.Context(), kit.Patience, "", append([]string{"lab-exec", plain.Name, program, "part:" + part[0]}, part[1:]...)...)
			done <- r
		}()
		return func() kit.Result { return <-done }
	}
	inTime := func(while string) {
		t.Helper()
		if r := plain.LLS(t, "list").Want(t, 0); r.Took > normal {
			t.Errorf("while %s, a list took %v", while, r.Took)
		}
	}

	end := during("as-user", "press", "600", lasting)
	kit.Eventually(t, "a user has connections", func() bool { return agentHolds(t).files >= before.files+8 })
	time.Sleep(2 * time.Second) // until he has all that he can have
	for range 3 {
		inTime("a user takes what connections he can get")
	}
	if held := agentHolds(t); held.files > before.files+64 {
		t.Errorf("for a user who is not served the agent holds %+v; before %+v", held, before)
	}
	end().Want(t, 0)
	before.letsGo(t)

	end = during("watch", "140", lasting)
	kit.Eventually(t, "there are watchers", func() bool { return agentHolds(t).files >= before.files+64 })
	inTime("140 watch")
	var counts map[string]int
	if end().Want(t, 0).JSON(t, &counts); counts["200"] != 64 || counts["409"] != 76 {
		t.Errorf("of 140 watchers: %v", counts)
	}
	before.letsGo(t)
}

func TestARequestWithoutItsBodyIsGivenUp(t *testing.T) {
	scene(t)
	for _, guise := range [][]string{{"stall", "20", "25"}, {"as-user", "stall", "20", "25"}} {
		r := as(t, more, guise[0], guise[1:]...).Want(t, 0)
		var got, closed int
		if _, err := fmt.Sscan(r.Stdout, &got, &closed); err != nil || got != 20 || closed != got {
			t.Errorf("%v: %d of %d connections were closed in time: %v", guise, closed, got, err)
		}
	}
}

func TestWritersOfOneContainerDoNotCrowdOutOthers(t *testing.T) {
	scene(t)
	plain.Do(t, "create", "hammer", "--size", "64M")
	done := make(chan kit.Result, 1)
	go func() {
		r, _ := kit.Try(t.Context(), kit.Patience, "", "lab-exec", plain.Name, "sh", "-c",
			program+" part:many 60 set hammer --access rw; "+program+" part:many 60 set hammer --access ro")
		done <- r
	}()
	time.Sleep(2 * time.Second)
	othersWork(t, "while one container changes things without end")
	if r := more.LLS(t, "list").Want(t, 0); r.Took > normal {
		t.Errorf("a list took %v", r.Took)
	}
	r := <-done
	var counts map[int]int
	for line := range strings.Lines(r.Want(t, 0).Stdout) {
		if err := json.Unmarshal([]byte(line), &counts); err != nil || counts[0] == 0 {
			t.Errorf("%v: %v", err, r)
		}
	}
	nothingHalfMade(t)
	plain.Purge(t, "hammer")
}
