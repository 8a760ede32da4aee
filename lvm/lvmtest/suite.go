package lvmtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"lls/lvm"
)

// Host is what lvm.Host and Fake have in common.
type Host interface {
	Report(ctx context.Context, vgs ...lvm.VG) ([]lvm.Group, error)
	Write(ctx context.Context, vg lvm.VG, fn func(lvm.Writer) error) error
	Backup(ctx context.Context, vg lvm.VG) error
	Device(vg lvm.VG, name lvm.Name) string
	CreateGroup(ctx context.Context, vg lvm.VG, device string, metadata lvm.Size) error
	CreatePool(ctx context.Context, c lvm.CreatePool) error
	TagPool(ctx context.Context, vg lvm.VG, pool lvm.Name, add []lvm.Tag) error
}

var (
	_ Host = (*lvm.Host)(nil)
	_ Host = (*Fake)(nil)
)

// Mark is the tag of what the suite manages.
const Mark = lvm.Tag("lls")

// Managed goes into the options of the Host or Fake under test.
func Managed(v lvm.Volume) bool { return v.HasTag(Mark) }

// Env is where one case of the suite runs: a group with an empty pool of 512
// MiB, at least 5 GiB of free space besides, and what others do there.
type Env struct {
	Host Host
	VG   lvm.VG
	Pool lvm.Name

	Open     func(t *testing.T, name lvm.Name) (release func()) // holds a volume's device
	Plain    func(t *testing.T, name lvm.Name)                  // makes a linear volume of 8 MiB
	Classic  func(t *testing.T, origin, name lvm.Name)          // makes a classic snapshot of it
	External func(t *testing.T, origin, name lvm.Name)          // makes a thin volume reading through to it
	Profile  func(t *testing.T, name string)                    // attaches a metadata profile to the pool, or with no name detaches it
}

// Suite is the contract of package lvm. Each case gets an Env of its own.
func Suite(t *testing.T, newEnv func(t *testing.T) Env) {
	for _, c := range []struct {
		name string
		run  func(k *check)
	}{
		{"reports a group without volumes", reportsEmptyGroup},
		{"says that a group does not exist", missingGroup},
		{"creates a thin volume as described", createsThin},
		{"creates a volume inactive", createsInactive},
		{"refuses to create what exists, and without a pool", refusesCreate},
		{"snapshots an inactive and an active volume", snapshots},
		{"refuses to snapshot what is not there or not thin", refusesSnapshot},
		{"keeps a snapshot whose origin is removed", originRemoved},
		{"adds and takes away tags in one step", retags},
		{"keeps every character a tag may have", tagCharacters},
		{"activates and deactivates several at once", activates},
		{"refuses to deactivate and to remove what is open", open},
		{"removes only what is still to go", removesWhatIsToGo},
		{"extends, and never shrinks", extends},
		{"sets and takes away read-only", readOnly},
		{"never removes what a classic snapshot depends on", classicDependent},
		{"never removes what a thin volume reads through to", externalDependent},
		{"changes only what is managed", managed},
		{"grows a pool", growsPool},
		{"says what metadata costs", metadataCosts},
		{"says what metadata data costs", dataCostsMetadata},
		{"sets and takes away the fallback of a pool", fallback},
		{"leaves a profile of somebody else's alone", foreignProfile},
		{"tags a pool", tagsPool},
		{"refuses to create a pool that exists or does not fit", refusesPool},
		{"has one writer at a time, in order", oneWriter},
		{"waits for its turn no longer than its context", waitsWithContext},
		{"closes the writer", closesWriter},
		{"checks names again", checksNames},
		{"backs a group up", backsUp},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c.run(&check{T: t, Env: newEnv(t), ctx: ctx})
		})
	}
}

// check is one case at work.
type check struct {
	*testing.T
	Env
	ctx context.Context
}

// write runs a function under the group's writer.
func (k *check) write(fn func(w lvm.Writer) error) error {
	return k.Host.Write(k.ctx, k.VG, fn)
}

// must wants no error.
func (k *check) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// want wants a certain error.
func (k *check) want(err, target error) {
	k.Helper()
	if !errors.Is(err, target) {
		k.Fatalf("error is %v, want %v", err, target)
	}
}

func (k *check) group() lvm.Group {
	k.Helper()
	groups, err := k.Host.Report(k.ctx, k.VG)
	k.must(err)
	if len(groups) != 1 || groups[0].Name != k.VG {
		k.Fatalf("report of %s has %d groups", k.VG, len(groups))
	}
	return groups[0]
}

func (k *check) volume(name lvm.Name) lvm.Volume {
	k.Helper()
	v, ok := k.group().Volume(name)
	if !ok {
		k.Fatalf("volume %s is not reported", name)
	}
	return v
}

func (k *check) absent(name lvm.Name) {
	k.Helper()
	if _, ok := k.group().Volume(name); ok {
		k.Fatalf("volume %s is there", name)
	}
}

func (k *check) pool() lvm.Pool {
	k.Helper()
	p, ok := k.group().Pool(k.Pool)
	if !ok {
		k.Fatalf("pool %s is not reported", k.Pool)
	}
	return p
}

// thin makes an active managed volume of 16 MiB.
func (k *check) thin(name lvm.Name, tags ...lvm.Tag) {
	k.Helper()
	k.must(k.write(func(w lvm.Writer) error {
		return w.CreateThin(k.ctx, lvm.CreateThin{
			Pool: k.Pool, Name: name, Size: 16 * lvm.MiB, Tags: append(tags, Mark), Activate: true,
		})
	}))
}
