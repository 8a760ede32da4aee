package notify

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxItems is how many items wait at most; of urgent ones a quarter more, and of those that are somebody's doing a quarter less, so that
// nobody keeps news of the host out. A mail lists no more.
const MaxItems = 200

// MaxOf is how many items wait at most that are of one and the same doing.
const MaxOf = 30

// maxCrowds is of how many the items left out are counted apart.
const maxCrowds = 100

// maxFile is more than any file of the queue has: an item is cut to less.
const maxFile = 64 << 10

// Files of a queue's directory. An item is NUMBER.item, numbers rise. sentName is what makes sending final: items up to the number it
// names, and a mail of them, are done with, whether removed yet or not.
const (
	itemSuffix  = ".item"
	newSuffix   = ".new"
	mailName    = "mail"
	sentName    = "sent"
	leftOutName = "left-out"
)

// queued is an item with its number.
type queued struct {
	Item
	number uint64
}

// draft is the mail that is tried now: the items up to a number, which is its own. Its text follows from it, so that each try sends
// the same.
type draft struct {
	ID      string
	Last    uint64
	LeftOut leftOut
	At      time.Time
}

// sentState is the end of the last mail that a server took.
type sentState struct {
	Last uint64
	At   time.Time
}

// leftOut counts the items that found the queue full: all of them, and how many of these are of whose doing. It is never changed.
type leftOut struct {
	Count int
	Of    map[string]int `json:",omitempty"`
}

// with counts one more.
func (l leftOut) with(of string) leftOut {
	l.Count++
	if _, known := l.Of[of]; of != "" && (known || len(l.Of) < maxCrowds) {
		l.Of = maps.Clone(l.Of)
		if l.Of == nil {
			l.Of = map[string]int{}
		}
		l.Of[of]++
	}
	return l
}

// without is what is left when what a mail told is taken off.
func (l leftOut) without(told leftOut) leftOut {
	rest := leftOut{Count: max(l.Count-told.Count, 0), Of: maps.Clone(l.Of)}
	maps.DeleteFunc(rest.Of, func(of string, n int) bool { return n <= told.Of[of] })
	for of := range rest.Of {
		rest.Of[of] -= told.Of[of]
	}
	return rest
}

// queue is what waits, in memory as on disk: files are only read when it is opened.
type queue struct {
	dir     string
	log     *slog.Logger
	items   []queued // in order
	next    uint64   // number
	leftOut leftOut
	sent    sentState
	mail    *draft  // nil: none is tried
	frozen  bool    // a server may have taken the mail already: nothing may be added to it
	rests   []*rest // the oldest first
}

func openQueue(dir string, log *slog.Logger) (*queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	q := &queue{dir: dir, log: log}
	q.read(sentName, &q.sent)
	q.clock(time.Now())
	for _, f := range files { // sorted by name, and so by number
		q.takeRest(f.Name())
	}
	q.next = q.sent.Last + 1
	for _, f := range files {
		q.take(f.Name())
	}
	slices.SortFunc(q.items, func(a, b queued) int { return cmp.Compare(a.number, b.number) })
	var m draft
	if q.read(mailName, &m) {
		if m.Last > q.sent.Last && (q.count(m.Last) > 0 || m.LeftOut.Count > 0) {
			q.mail, q.frozen, q.next = &m, true, max(q.next, m.Last+1)
		} else {
			q.remove(mailName)
		}
	}
	var l leftOut
	if q.read(leftOutName, &l) && l.Count > 0 {
		q.leftOut = l
	}
	return q, nil
}

// clock is told what time it is. What was sent later than that was sent before the clock was set back: how long ago, nobody knows.
func (q *queue) clock(now time.Time) {
	if q.sent.At.After(now) {
		q.sent.At = now
	}
}

// take takes in one file of an earlier process.
func (q *queue) take(name string) {
	if strings.HasSuffix(name, newSuffix) { // half written
		q.remove(name)
		return
	}
	digits, ok := strings.CutSuffix(name, itemSuffix)
	if !ok {
		return
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || number <= q.sent.Last {
		q.remove(name)
		return
	}
	q.next = max(q.next, number+1)
	var it Item
	if q.read(name, &it) {
		q.items = append(q.items, queued{it.clean(), number})
	}
}

// read decodes a file. One that cannot be read is logged and removed: nothing in it is worth stopping for.
func (q *queue) read(name string, into any) bool {
	most := int64(maxFile)
	if strings.HasSuffix(name, restSuffix) {
		most = maxRest
	}
	text, err := readSmall(filepath.Join(q.dir, name), most)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		q.log.Warn("cannot read a file of the mail queue", "file", filepath.Join(q.dir, name), "error", err)
		q.remove(name)
		return false
	}
	return true
}

func readSmall(path string, most int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("not a file of %d bytes at most", most)
	}
	return os.ReadFile(path)
}

// remove removes a file. One that stays is done with again by the next process.
func (q *queue) remove(name string) {
	if err := os.Remove(filepath.Join(q.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Warn("cannot remove a file of the mail queue", "error", err)
	}
}

// write replaces a file: after a crash there is the old one or the new.
func (q *queue) write(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	path := filepath.Join(q.dir, name)
	if err := writeSynced(path+newSuffix, text); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return syncDir(q.dir)
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// waiting counts what is not sent.
func (q *queue) waiting() int { return len(q.items) + q.leftOut.Count }

// count is how many items have numbers up to last.
func (q *queue) count(last uint64) int {
	n := slices.IndexFunc(q.items, func(it queued) bool { return it.number > last })
	if n < 0 {
		return len(q.items)
	}
	return n
}

// add adds an item, or counts it as left out. It is in memory whatever the error.
func (q *queue) add(it Item) error {
	if q.full(it) {
		q.leftOut = q.leftOut.with(it.Of)
		return q.write(leftOutName, q.leftOut)
	}
	number := q.next
	q.next++
	q.items = append(q.items, queued{it, number})
	return q.write(fmt.Sprintf("%020d%s", number, itemSuffix), it)
}

// full says whether there is no room for an item.
func (q *queue) full(it Item) bool {
	limit, same := MaxItems, 0
	switch {
	case it.Severity >= Urgent:
		limit += MaxItems / 4
	case it.Of != "":
		limit -= MaxItems / 4
	}
	for _, other := range q.items {
		if it.Of != "" && other.Of == it.Of {
			same++
		}
	}
	return len(q.items) >= limit || same >= MaxOf
}

// draft says what to send: all that waits, or, when an earlier try may have been taken, the same as then. It is nil when nothing
// waits. An error says that a crash now could send it again as another mail.
func (q *queue) draft(now time.Time) (*draft, []Item, error) {
	if q.waiting() == 0 {
		return nil, nil, nil
	}
	var err error
	if q.mail == nil || !q.frozen && (q.count(q.mail.Last) < len(q.items) || q.mail.LeftOut.Count < q.leftOut.Count) {
		m := draft{ID: newID(), Last: q.next, LeftOut: q.leftOut, At: now}
		if q.mail != nil {
			m.ID = q.mail.ID
		}
		q.mail = &m
		q.next++
		err = q.write(mailName, m)
	}
	m := *q.mail
	var items []Item
	for _, it := range q.items[:q.count(m.Last)] {
		items = append(items, it.Item)
	}
	return &m, items, err
}

// done says that a server took the mail at this time. An error says that a crash now could send it again.
func (q *queue) done(at time.Time) error {
	m := *q.mail
	q.sent = sentState{Last: m.Last, At: at}
	err := q.write(sentName, q.sent)
	q.forget(m.Last)
	if q.leftOut = q.leftOut.without(m.LeftOut); m.LeftOut.Count > 0 {
		q.writeLeftOut()
	}
	return err
}

// drop forgets everything, unsent.
func (q *queue) drop() {
	q.forget(q.next - 1)
	q.leftOut = leftOut{}
	q.writeLeftOut()
}

// forget removes the mail, and the items up to a number.
func (q *queue) forget(last uint64) {
	n := q.count(last)
	for _, it := range q.items[:n] {
		q.remove(fmt.Sprintf("%020d%s", it.number, itemSuffix))
	}
	q.items = slices.Delete(q.items, 0, n)
	q.remove(mailName)
	q.mail, q.frozen = nil, false
}

func (q *queue) writeLeftOut() {
	if q.leftOut.Count == 0 {
		q.remove(leftOutName)
	} else if err := q.write(leftOutName, q.leftOut); err != nil {
		q.log.Warn("cannot note how many items of mail were left out", "error", err)
	}
}
