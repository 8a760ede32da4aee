package policy

import "fmt"

// Use is what one container has in one pool already.
type Use struct {
	Volumes, Snapshots int
	Size               int64 // bytes
}

// Fill is how full a pool is. Known is false while it is inactive: then nothing is refused for it.
type Fill struct {
	DataPercent, MetadataPercent float64
	Known                        bool
}

// Ask is something new: one more volume, or growth. Size is the bytes it adds to the sum of virtual sizes.
type Ask struct {
	Volume, Snapshot bool
	Size             int64
}

// Refusal says which limit stands against it. It is an error.
type Refusal struct {
	Limit string // as the key in lls.toml
	Why   string
	Hint  string
}

func (r *Refusal) Error() string { return r.Why }

// Admit decides whether a container that uses use may have ask. It returns nil or the first limit that says no.
func (l Limits) Admit(use Use, ask Ask) *Refusal {
	hint := "make room: lls delete NAME, then lls purge NAME --yes; lls usage shows what counts"
	switch {
	case ask.Volume && l.Volumes > 0 && use.Volumes+1 > l.Volumes:
		return &Refusal{"volumes", fmt.Sprintf("it would be the volume number %d of %d allowed, trash included", use.Volumes+1, l.Volumes), hint}
	case ask.Snapshot && l.Snapshots > 0 && use.Snapshots+1 > l.Snapshots:
		return &Refusal{"snapshots", fmt.Sprintf("it would be the snapshot number %d of %d allowed, trash included", use.Snapshots+1, l.Snapshots), hint}
	case l.Size > 0 && ask.Size > l.Size-use.Size:
		return &Refusal{"size", fmt.Sprintf("%d bytes more than the %d in use would pass the %d allowed, trash included", ask.Size, use.Size, l.Size), hint}
	}
	return nil
}

// AdmitPool decides whether a pool that is so full takes anything new. It holds for the sysadmin as well.
func (l Limits) AdmitPool(fill Fill) *Refusal {
	if !fill.Known {
		return nil
	}
	hint := "purge what is not needed, or have the sysadmin grow the pool"
	switch {
	case fill.DataPercent >= l.DataPercent:
		return &Refusal{"data_percent", fmt.Sprintf("the pool's data is %.1f%% full, and nothing new is made from %.0f%% on", fill.DataPercent, l.DataPercent), hint}
	case fill.MetadataPercent >= l.MetadataPercent:
		return &Refusal{"metadata_percent", fmt.Sprintf("the pool's metadata is %.1f%% full, and nothing new is made from %.0f%% on", fill.MetadataPercent, l.MetadataPercent), hint}
	}
	return nil
}
