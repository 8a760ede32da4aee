package container

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tokenFile stands beside a container's config. Copying or renaming a container with LXC's own commands does not take it along, so
// a new container of an old name is not the old one.
const tokenFile = "lls.id"

// tokenLen is the length of a token: 40 bits, so that two containers of one name never meet by chance.
const tokenLen = 8

// tokenOf reads the container's token, or gives it one.
func tokenOf(dir string) (string, error) {
	path := filepath.Join(dir, tokenFile)
	token, err := readToken(path)
	if !errors.Is(err, os.ErrNotExist) {
		return token, err
	}
	token = strings.ToLower(rand.Text()[:tokenLen])
	if err := writeToken(path, token); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cannot write its token: %w", err)
	}
	return readToken(path) // another process may have been first
}

// readToken takes only what root has written there, and follows no link.
func readToken(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot read its token: %w", err)
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("cannot read its token: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("cannot trust its token: %s is not a file that only root can write", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", fmt.Errorf("cannot read its token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < tokenLen || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fmt.Errorf("cannot read its token: %s holds none", path)
	}
	return token, nil
}

// writeToken makes the file whole or not at all: os.ErrExist when there is one.
func writeToken(path, token string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+tokenFile+".")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(token + "\n")
	if err == nil {
		err = tmp.Sync()
	}
	if err2 := tmp.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	return os.Link(tmp.Name(), path)
}

func key(dir, base string) string {
	sum := sha256.Sum256([]byte(dir + "\x00" + base))
	return hex.EncodeToString(sum[:8])
}
