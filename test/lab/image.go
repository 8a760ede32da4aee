package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// An image is a folder of the cache named after its recipe's hash. It appears
// under that name only when it is complete.

// builder makes images; say tells the user what takes time.
type builder struct {
	cache cache
	host  *host
	say   func(format string, args ...any)
}

// ensure returns the folder named key, making it with build if it is not there.
// Two builders of the same folder wait for one another.
func (b *builder) ensure(ctx context.Context, key string, build func(ctx context.Context, dir string) error) (string, error) {
	final := filepath.Join(b.cache.images(), key)
	if _, err := os.Stat(final); err == nil {
		return final, touch(final)
	}
	lock, err := waitLock(ctx, b.cache.file(key+".lock"), func() { b.say("waiting for another run to build %s", key) })
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := b.forgetOld(time.Now()); err != nil {
		return "", err
	}
	start := time.Now()
	b.say("building %s", key)
	building := final + ".building"
	for try := 1; ; try++ {
		if err := os.RemoveAll(building); err != nil {
			return "", fmt.Errorf("cannot clear an unfinished image: %w", err)
		}
		if err := os.MkdirAll(building, 0o755); err != nil {
			return "", fmt.Errorf("cannot make the image's folder: %w", err)
		}
		err := build(ctx, building)
		if err == nil {
			break
		}
		if try == buildTries || ctx.Err() != nil {
			return "", fmt.Errorf("cannot build %s: %w", key, err)
		}
		b.say("building %s again: %v", key, err)
	}
	if err := os.Rename(building, final); err != nil {
		return "", fmt.Errorf("cannot keep the image: %w", err)
	}
	b.say("built %s in %.0f s", key, time.Since(start).Seconds())
	return final, nil
}

// buildTries is how often an image is tried: the archive's mirror may change while packages are fetched from it.
const buildTries = 3

// imageLife is how long an image is kept that nothing uses: recipes change.
const imageLife = 7 * 24 * time.Hour

// forgetOld removes the images that were last used long ago.
func (b *builder) forgetOld(now time.Time) error {
	entries, err := os.ReadDir(b.cache.images())
	if err != nil {
		return fmt.Errorf("cannot list images: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < imageLife {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.cache.images(), entry.Name())); err != nil {
			return fmt.Errorf("cannot remove an old image: %w", err)
		}
	}
	return nil
}

// touch notes that an image is in use.
func touch(dir string) error {
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return fmt.Errorf("cannot note the use of an image: %w", err)
	}
	return nil
}

// umlKernel returns a folder with usr/bin/linux.uml, its libc and its modules,
// ready to be the root of its process.
func (b *builder) umlKernel(ctx context.Context) (string, error) {
	r := umlKernelRecipe()
	return b.ensure(ctx, r.key(), func(ctx context.Context, dir string) error {
		debs, err := b.host.download(ctx, filepath.Join(dir, "apt"), r)
		if err != nil {
			return err
		}
		for _, deb := range debs {
			if err := b.host.run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, "apt")); err != nil {
			return err
		}
		// Debian's /lib and /lib64 are links that base-files makes.
		for name, target := range map[string]string{"lib": "usr/lib", "lib64": "usr/lib64"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
				return err
			}
		}
		for _, mountpoint := range jailMountpoints {
			if err := os.MkdirAll(filepath.Join(dir, mountpoint), 0o755); err != nil {
				return err
			}
		}
		return nil
	})
}

// guestImage returns a folder with base.img, and vmlinuz and initrd.img where
// the guest brings its own kernel.
func (b *builder) guestImage(ctx context.Context, r recipe) (string, error) {
	return b.ensure(ctx, r.key(), func(ctx context.Context, dir string) error {
		root := filepath.Join(dir, "root")
		if err := b.bootstrap(ctx, r, dir, root); err != nil {
			return err
		}
		if err := r.apply(root); err != nil {
			return err
		}
		if r.Backend == backendUML {
			kernel, err := b.umlKernel(ctx)
			if err != nil {
				return err
			}
			if err := b.copyModules(ctx, kernel, root); err != nil {
				return err
			}
		} else if err := takeKernel(root, dir); err != nil {
			return err
		}
		if err := b.host.run(ctx, "", "mkfs.ext4", "-q", "-L", "lab", "-m", "0", "-d", root,
			filepath.Join(dir, "base.img"), strconv.FormatInt(r.Size>>20, 10)+"M"); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
}

// bootstrap makes the guest's root folder from Debian packages.
func (b *builder) bootstrap(ctx context.Context, r recipe, dir, root string) error {
	args := []string{"--mode=root", "--variant=minbase", "--components=main",
		"--include=" + strings.Join(r.Packages, ","), `--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Retries "5"`,
		`--dpkgopt=force-unsafe-io`}
	if len(r.Early) > 0 {
		early := filepath.Join(dir, "early")
		for name, file := range r.Early {
			if err := putFile(early, name, file); err != nil {
				return err
			}
		}
		args = append(args, "--essential-hook=sync-in "+early+" /")
	}
	opts, err := b.host.aptOptions(ctx)
	if err != nil {
		return err
	}
	for _, opt := range opts {
		args = append(args, "--aptopt="+opt)
	}
	args = append(args, string(r.Guest), root, fmt.Sprintf("deb %s %s main", r.Mirror, r.Guest))
	return b.host.run(ctx, "", "mmdebstrap", args...)
}

// apply puts the recipe's files and links into root.
func (r recipe) apply(root string) error {
	for name, file := range r.Files {
		if err := putFile(root, name, file); err != nil {
			return err
		}
	}
	if r.Profiles != nil {
		if err := keepProfiles(filepath.Join(root, "etc/apparmor.d"), r.Profiles); err != nil {
			return err
		}
	}
	for name, target := range r.Links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for _, dir := range []string{"lab", "share"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// keepProfiles removes the AppArmor profiles in dir, its folders left alone, that
// match none of the globs.
func keepProfiles(dir string, globs []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot list AppArmor profiles: %w", err)
	}
	for _, entry := range entries {
		keep := entry.IsDir()
		for _, glob := range globs {
			match, err := filepath.Match(glob, entry.Name())
			if err != nil {
				return fmt.Errorf("cannot choose AppArmor profiles: %w", err)
			}
			keep = keep || match
		}
		if keep {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func putFile(root, name string, file imageFile) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(file.Text), 0o600); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(file.Mode))
}

// copyModules gives the guest the modules of the kernel that will run it.
func (b *builder) copyModules(ctx context.Context, kernel, root string) error {
	from := filepath.Join(kernel, "usr/lib/uml/modules")
	versions, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("cannot find the kernel's modules: %w", err)
	}
	to := filepath.Join(root, "usr/lib/modules")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, version := range versions {
		if err := b.host.run(ctx, "", "cp", "-a", "--", filepath.Join(from, version.Name()), to); err != nil {
			return err
		}
	}
	return nil
}

// takeKernel copies the guest's kernel and initrd to where QEMU reads them.
func takeKernel(root, dir string) error {
	for name, pattern := range map[string]string{"vmlinuz": "boot/vmlinuz-*", "initrd.img": "boot/initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("cannot find the guest's kernel: %d files match %s", len(found), pattern)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
