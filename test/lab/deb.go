package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// treeRoot finds the tree this lab belongs to, upwards from the working folder.
func treeRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module lls\n") {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("cannot find LLS's tree: run the lab from inside it")
		}
		dir = filepath.Dir(dir)
	}
}

// buildDeb builds this tree's package and copies it to dst. One build at a time:
// two runs started side by side share the tree.
func buildDeb(ctx context.Context, c cache, h *host, dst string) error {
	root, err := treeRoot()
	if err != nil {
		return err
	}
	lock, err := waitLock(ctx, c.file("deb.lock"), nil)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := h.need(ctx, map[string]string{"make": "make", "dpkg-deb": "dpkg"}); err != nil {
		return err
	}
	if err := h.run(ctx, root, "make", "-C", root, "deb"); err != nil {
		return fmt.Errorf("cannot build LLS's package: %w", err)
	}
	newest, err := newestDeb(filepath.Join(root, "build"))
	if err != nil {
		return err
	}
	return copyFile(newest, dst, 0o644)
}

func newestDeb(dir string) (string, error) {
	debs, err := filepath.Glob(filepath.Join(dir, "lls_*_amd64.deb"))
	if err != nil {
		return "", err
	}
	var newest string
	var when time.Time
	for _, deb := range debs {
		info, err := os.Stat(deb)
		if err != nil {
			return "", err
		}
		if newest == "" || info.ModTime().After(when) {
			newest, when = deb, info.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("cannot find LLS's package: `make deb` left no lls_*_amd64.deb in %s", dir)
	}
	return newest, nil
}

func copyFile(src, dst string, mode os.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("cannot copy: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("cannot copy: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(fmt.Errorf("cannot copy %s: %w", src, err), out.Close())
	}
	return out.Close()
}
