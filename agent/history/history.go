// Package history keeps on disk what was observed over time and stands nowhere else: how long volumes were unused, how pools filled.
// All of it may be lost: that can only make the agent keep things longer.
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lls/policy"
)

// Version is that of the file's layout. A file of another version is not read.
const Version = 1

// maxFile bounds what is read: 400 bytes for each of 100000 volumes.
const maxFile = 64 << 20

// History is what was observed. Its maps are never nil.
type History struct {
	Version int                        `json:"version"`
	Ages    map[string]policy.Age      `json:"ages"`    // of volumes, by id
	Trims   map[string]Trim            `json:"trims"`   // of volumes, by id
	Samples map[string][]policy.Sample `json:"samples"` // of pools, by name
	Levels  map[string]float64         `json:"levels"`  // the level that was told of last, by pool and part
	Mapped  map[string]int64           `json:"mapped"`  // bytes of volumes, by id, at most an hour of running time ago
	Earlier map[string]int64           `json:"earlier"` // the same, an hour before that: who writes most has got most since then
	Deeds   map[string]Deed            `json:"deeds"`   // to volumes, by id, that are about to be done, or are done and not told
	Sizes   map[string]int64           `json:"sizes"`   // bytes, by pool and part, when they were last seen: what is larger then was grown by others
}

// Deed is what the policy does to a volume, and what is to be told of it: the sysadmin hears of it also when the agent ends in between.
type Deed struct {
	Purge   bool     `json:"purge,omitempty"` // for good; else to the trash
	Owner   string   `json:"owner"`           // its name
	Pool    string   `json:"pool"`
	Line    string   `json:"line"`
	Why     []string `json:"why,omitempty"`
	Warning bool     `json:"warning,omitempty"`
}

// Trim is when a volume was trimmed.
type Trim struct {
	Before bool          `json:"before"` // it was trimmed once
	Since  time.Duration `json:"since"`  // running time since then, or since it was first seen mounted
}

// New is a history of nothing.
func New() *History {
	h := &History{}
	h.fill()
	return h
}

func (h *History) fill() {
	h.Version = Version
	if h.Deeds == nil {
		h.Deeds = map[string]Deed{}
	}
	if h.Sizes == nil {
		h.Sizes = map[string]int64{}
	}
	if h.Mapped == nil {
		h.Mapped = map[string]int64{}
	}
	if h.Earlier == nil {
		h.Earlier = map[string]int64{}
	}
	if h.Ages == nil {
		h.Ages = map[string]policy.Age{}
	}
	if h.Trims == nil {
		h.Trims = map[string]Trim{}
	}
	if h.Samples == nil {
		h.Samples = map[string][]policy.Sample{}
	}
	if h.Levels == nil {
		h.Levels = map[string]float64{}
	}
}

// Load reads a file. What cannot be read is an empty history and an error; a file that is not there is none.
func Load(path string) (*History, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return New(), nil
	}
	var data []byte
	if err == nil && fi.Size() > maxFile {
		err = fmt.Errorf("%d bytes are too many", fi.Size())
	}
	if err == nil {
		data, err = os.ReadFile(path)
	}
	h := &History{}
	if err == nil {
		err = json.Unmarshal(data, h)
	}
	if err == nil && h.Version != Version {
		err = fmt.Errorf("it is of version %d, not %d", h.Version, Version)
	}
	if err != nil {
		return New(), fmt.Errorf("cannot read %s: %w", path, err)
	}
	h.fill()
	return h, nil
}

// Text is what a file holds.
func (h *History) Text() ([]byte, error) { return json.Marshal(h) }

// Save writes a file anew, in one step: a crash leaves the old or the new.
func Save(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
