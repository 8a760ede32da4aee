package notify

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func reopen(t *testing.T, dir string) *queue {
	t.Helper()
	q, err := openQueue(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func fill(t *testing.T, q *queue, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := q.add(Item{At: at(1, 0, n%60), Line: fmt.Sprint("event ", n)}); err != nil {
			t.Fatal(err)
		}
	}
}

// lines are the items of what would be sent now.
func lines(t *testing.T, q *queue) (*draft, string) {
	t.Helper()
	d, items, err := q.draft(at(2, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, it := range items {
		all = append(all, strings.TrimPrefix(it.Line, "event "))
	}
	return d, strings.Join(all, " ")
}

func files(t *testing.T, dir string) string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

func TestWhatIsQueuedIsThereAgain(t *testing.T) {
	dir := t.TempDir() + "/made/mail"
	q := reopen(t, dir)
	if d, _ := lines(t, q); d != nil {
		t.Errorf("an empty queue has a mail: %+v", d)
	}
	fill(t, q, 1, 3)
	q = reopen(t, dir)
	fill(t, q, 4, 12)
	q = reopen(t, dir)
	if _, got := lines(t, q); got != "1 2 3 4 5 6 7 8 9 10 11 12" {
		t.Errorf("it has %s", got)
	}
	if err := q.done(at(2, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); got != sentName || q.waiting() != 0 {
		t.Errorf("after sending there are %s", got)
	}
	q = reopen(t, dir)
	fill(t, q, 13, 13)
	if _, got := lines(t, reopen(t, dir)); got != "13" || !q.sent.At.Equal(at(2, 0, 1)) {
		t.Errorf("then there is %s, sent at %v", got, q.sent.At)
	}
}

func TestATriedMailStaysTheSameOverARestart(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	fill(t, q, 1, 2)
	before, _ := lines(t, q)
	q = reopen(t, dir)
	fill(t, q, 3, 3)
	after, got := lines(t, q)
	if got != "1 2" || after.ID != before.ID || !after.At.Equal(before.At) {
		t.Errorf("it became %s, %+v from %+v", got, after, before)
	}
	if err := q.done(at(2, 0, 1)); err != nil {
		t.Fatal(err)
	}
	next, got := lines(t, q)
	if got != "3" || next.ID == before.ID {
		t.Errorf("the next is %s, %+v", got, next)
	}
}

func TestAMailThatWasSurelyNotTakenGetsWhatCameSince(t *testing.T) {
	q := reopen(t, t.TempDir())
	fill(t, q, 1, 2)
	first, _ := lines(t, q)
	fill(t, q, 3, 3)
	second, got := lines(t, q)
	if got != "1 2 3" || second.ID != first.ID || second.Last <= first.Last {
		t.Errorf("it is %s, %+v after %+v", got, second, first)
	}
	q.frozen = true
	fill(t, q, 4, 4)
	if third, got := lines(t, q); got != "1 2 3" || third.Last != second.Last {
		t.Errorf("frozen it is %s, %+v", got, third)
	}
}

// copyDir is what a crash leaves: the files of one moment.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestACrashWhileAMailIsDoneSendsItNoMore(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	fill(t, q, 1, MaxItems+2) // two are left out
	if _, got := lines(t, q); !strings.HasSuffix(got, fmt.Sprint(" ", MaxItems)) {
		t.Fatalf("it is %s", got)
	}
	crashed := copyDir(t, dir)
	if err := q.done(at(2, 0, 1)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, sentName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(crashed, sentName), text, 0o600); err != nil { // the first step of done alone
		t.Fatal(err)
	}
	again := reopen(t, crashed)
	if len(again.items) != 0 || again.mail != nil {
		t.Errorf("%d items, mail %+v", len(again.items), again.mail)
	}
	if strings.Contains(files(t, crashed), itemSuffix) {
		t.Errorf("there are %s", files(t, crashed))
	}
	fill(t, again, 7, 7)
	if _, got := lines(t, reopen(t, crashed)); got != "7" {
		t.Errorf("then there is %s", got)
	}
}

func TestAFloodIsCountedNotKept(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	fill(t, q, 1, MaxItems+30)
	for range MaxItems {
		if err := q.add(Item{Line: "now", Severity: Urgent}); err != nil {
			t.Fatal(err)
		}
	}
	q = reopen(t, dir)
	if want := MaxItems + MaxItems/4; len(q.items) != want || q.leftOut.Count != 30+MaxItems-MaxItems/4 {
		t.Errorf("%d items, %d left out", len(q.items), q.leftOut.Count)
	}
	d, _ := lines(t, q)
	if n := strings.Count(files(t, dir), " "); n != len(q.items)+1 {
		t.Errorf("%d files for %d items", n+1, len(q.items))
	}
	if err := q.done(d.At); err != nil {
		t.Fatal(err)
	}
	if q = reopen(t, dir); q.waiting() != 0 {
		t.Errorf("%d wait", q.waiting())
	}
}

func TestNobodyCrowdsOutTheNewsOfOthers(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	add := func(n int, of string, severity Severity) {
		t.Helper()
		for range n {
			if err := q.add(Item{Line: "event", Of: of, Severity: severity}); err != nil {
				t.Fatal(err)
			}
		}
	}
	listed := func(d *draft, items []Item) map[string]int {
		all := map[string]int{}
		for _, it := range items {
			all[it.Of]++
		}
		return all
	}
	add(400, "web1", Info)
	add(100, "web1", Urgent)
	add(2, "web2", Warn)
	for n := range 20 {
		add(MaxOf, fmt.Sprint("ci", n), Warn)
	}
	add(1, "web2", Info)
	q = reopen(t, dir)
	add(10, "", Warn)
	q = reopen(t, dir)
	d, items, err := q.draft(at(2, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(d, items); got["web1"] != MaxOf || got["web2"] != 2 || got[""] != 10 || len(items) != MaxItems-MaxItems/4+10 {
		t.Errorf("listed are %v", got)
	}
	compose := func(d *draft) string {
		return strings.Join(strings.Fields(lab.compose(d.ID, d.At, items, d.LeftOut).Body), " ")
	}
	body := compose(d)
	for _, want := range []string{"And 953 more, until", " 470 of web1", " 1 of web2", " 30 of ci9,"} {
		if !strings.Contains(body, want) {
			t.Errorf("it does not say %q:\n%s", want, body)
		}
	}
	q = reopen(t, dir) // the mail is tried again, as it was
	add(5, "web1", Info)
	again, items, err := q.draft(at(3, 0, 0))
	if err != nil || compose(again) != body {
		t.Errorf("tried again it is another: %v\n%s", err, compose(again))
	}
	if err := q.done(again.At); err != nil {
		t.Fatal(err)
	}
	q = reopen(t, dir)
	if d, items, err = q.draft(at(4, 0, 0)); err != nil || len(items) != 0 || d.LeftOut.Count != 5 || d.LeftOut.Of["web1"] != 5 || len(d.LeftOut.Of) != 1 {
		t.Errorf("the next is %+v with %d items: %v", d, len(items), err)
	}
}

func TestOnlyACountIsAMailToo(t *testing.T) {
	dir := t.TempDir()
	if err := reopen(t, dir).write(leftOutName, leftOut{Count: 5}); err != nil {
		t.Fatal(err)
	}
	q := reopen(t, dir)
	d, _ := lines(t, q)
	if d == nil || d.LeftOut.Count != 5 {
		t.Fatalf("mail is %+v", d)
	}
	if q = reopen(t, dir); q.mail == nil || q.mail.ID != d.ID || q.mail.LeftOut.Count != 5 {
		t.Errorf("mail is %+v", q.mail)
	}
}

func TestBrokenFilesStopNothing(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	fill(t, q, 1, 3)
	if _, got := lines(t, q); got != "1 2 3" {
		t.Fatal(got)
	}
	for name, text := range map[string]string{
		"00000000000000000002.item":     `{"Line":"half wri`,
		"00000000000000000009.item":     "",
		"00000000000000000008.item":     strings.Repeat(" ", maxFile) + "{}",
		"00000000000000000004.item.new": "{",
		"x.item":                        "{}",
		"-1.item":                       "{}",
		"99999999999999999999.item":     "{}",
		mailName:                        "\x00\x00\x00",
		sentName:                        "[]",
		leftOutName:                     `{"Count":"many"}`,
		"unknown":                       "stays",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "00000000000000000007.item/full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "00000000000000000006.item")); err != nil {
		t.Fatal(err)
	}
	q = reopen(t, dir)
	if _, got := lines(t, q); got != "1 3" || q.waiting() != 2 {
		t.Errorf("it has %s, %d", got, q.waiting())
	}
	if err := q.done(at(2, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); got != "00000000000000000007.item sent unknown" {
		t.Errorf("there are %s", got)
	}
}

func TestAClockSetBackDoesNotStopMail(t *testing.T) {
	dir := t.TempDir()
	if err := reopen(t, dir).write(sentName, sentState{Last: 3, At: time.Now().Add(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if q := reopen(t, dir); q.sent.At.After(time.Now()) || q.next != 4 {
		t.Errorf("sent is %v, next %d", q.sent, q.next)
	}
}

func TestAFullDiskDropsNothingOfThisProcess(t *testing.T) {
	dir := t.TempDir()
	q := reopen(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := q.add(Item{Line: "event 1"}); err == nil {
		t.Error("adding without a disk went well")
	}
	d, items, err := q.draft(at(2, 0, 0))
	if err == nil || d == nil || len(items) != 1 {
		t.Errorf("draft is %+v, %v, %v", d, items, err)
	}
	if err := q.done(at(2, 0, 0)); err == nil || q.waiting() != 0 {
		t.Errorf("done is %v, %d wait", err, q.waiting())
	}
}
