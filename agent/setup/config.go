package setup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lls/lvm"
	"lls/policy"
)

// ReadConfig reads an lls.toml; one that is not there is empty. The error is policy.Problems where the file could be read.
func ReadConfig(path string) (*policy.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return ParseConfig(path, data)
}

// ParseConfig reads the text of an lls.toml; path is for what is said of its mistakes. The error may be policy.Problems.
func ParseConfig(path string, data []byte) (*policy.Config, error) {
	return policy.Parse(path, data, func(s string) (int64, error) {
		n, err := lvm.ParseSize(s)
		return int64(n), err
	})
}

// freeName is what the next pool is called: main, then main2 and so on.
func freeName(cfg *policy.Config) string {
	name := DefaultPool
	for n := 2; ; n++ {
		if _, taken := cfg.Pool(name); !taken {
			return name
		}
		name = DefaultPool + strconv.Itoa(n)
	}
}

// addPool adds a section to lls.toml: the file is replaced as a whole, everything else in it is kept as it was, and what comes out is
// read before it takes the old one's place.
func addPool(path string, p policy.Pool) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	text += fmt.Sprintf("\n[pools.%s]\nvg = %q\nlv = %q\n", p.Name, p.Group, p.LV)
	if p.Loop != "" {
		text += fmt.Sprintf("loop = %q\n", p.Loop)
	}
	if _, err := ParseConfig(path, []byte(text)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".lls.toml.")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}
