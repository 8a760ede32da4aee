// Command bench measures LLS in the lab's guest. Its verdict is about one thing: `lls snapshot X --mount P`, from the client's start
// to its exit, must take at most 1.3 times what `lvcreate -s` and `mount` take, typed as root on the same origin. The other figures
// are for people.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	runs     = 10  // of each measurement
	maxRatio = 1.3 // of the medians
	inside   = "bench"
	guest    = "/bench" // where this program is in the container
	dataset  = "genomes"

	manyVolumes = 300
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == inside {
		os.Exit(serveCommands(os.Stdin, os.Stdout))
	}
	slow, err := bench()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if slow {
		os.Exit(1)
	}
}

// bench measures all, and says whether the verdict is no.
func bench() (slow bool, err error) {
	origin, err := setUp()
	if err != nil {
		return false, err
	}
	c, err := enter("c1")
	if err != nil {
		return false, err
	}
	defer c.close()
	ratio, err := sideBySide(c, origin)
	if err != nil {
		return false, err
	}
	if err := single(c); err != nil {
		return false, err
	}
	if err := bursts(200, 1); err != nil { // beside the dataset
		return false, err
	}
	if err := lists(c); err != nil {
		return false, err
	}
	if err := bursts(20, manyVolumes); err != nil {
		return false, err
	}
	if ratio > maxRatio {
		fmt.Printf("FAILED: the ratio %.2f is above %.1f\n", ratio, maxRatio)
		return true, nil
	}
	fmt.Printf("passed: the ratio %.2f is not above %.1f\n", ratio, maxRatio)
	return false, nil
}

// setUp makes a pool, a dataset with some files and a container, and returns the dataset as VG/LV.
func setUp() (string, error) {
	if _, err := sh("lls-agent", "init", "--device", os.Getenv("LLS_LAB_DISK")); err != nil {
		return "", err
	}
	if err := unhurried(); err != nil {
		return "", err
	}
	for _, line := range []string{
		"lls-agent reload",
		"lls-agent create " + dataset + " --size 2G",
		"mkdir -p /mnt/origin /mnt/typed",
		"lls-agent mount " + dataset + " /mnt/origin",
		"cp -a /usr/lib/lls /mnt/origin/",
		"lls-agent umount " + dataset,
		"lab-container c1",
	} {
		if _, err := sh(strings.Fields(line)...); err != nil {
			return "", err
		}
	}
	out, err := sh("lls-agent", "info", dataset, "--json")
	if err != nil {
		return "", err
	}
	var info struct {
		LV string `json:"lv"`
	}
	if err := json.Unmarshal(out, &info); err != nil || info.LV == "" {
		return "", fmt.Errorf("cannot read the dataset's volume in %s: %v", out, err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	return info.LV, os.WriteFile("/var/lib/lxc/c1/rootfs"+guest, self, 0o755)
}

// unhurried takes away the limits that a bench meets only because it is faster than anybody types, on a small disk.
func unhurried() error {
	f, err := os.OpenFile("/etc/lls/lls.toml", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n[[rules]]\nlimits = { operations_per_minute = 0, snapshots_per_minute = 0, overcommit = 0 }\n")
	return errors.Join(err, f.Close())
}

// sh runs a command on the host; its output is in the error.
func sh(argv ...string) ([]byte, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out, stderrOf(err))
	}
	return out, nil
}

func stderrOf(err error) []byte {
	if e, ok := err.(*exec.ExitError); ok {
		return e.Stderr
	}
	return nil
}

// typed times commands on the host, from the start of the first to the end of the last.
func typed(lines ...[]string) (time.Duration, error) {
	began := time.Now()
	for _, argv := range lines {
		if _, err := sh(argv...); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// sideBySide measures LLS in a container and the typed commands on the host in turns. The first turn is not counted.
func sideBySide(c *container, origin string) (ratio float64, err error) {
	vg := filepath.Dir(origin)
	var ours, theirs []time.Duration
	for n := range runs + 1 {
		i := strconv.Itoa(n)
		a, err := c.time("/lls/bin/lls", "snapshot", dataset, "ours"+i, "--mount", "/data")
		if err != nil {
			return 0, err
		}
		b, err := typed(
			[]string{"lvcreate", "-s", "-kn", "-ay", "-n", "typed" + i, origin},
			[]string{"mount", "/dev/" + vg + "/typed" + i, "/mnt/typed"})
		if err != nil {
			return 0, err
		}
		if n > 0 {
			ours, theirs = append(ours, a), append(theirs, b)
		}
		for _, argv := range [][]string{{"umount", "/mnt/typed"}, {"lvremove", "-y", vg + "/typed" + i}} {
			if _, err := sh(argv...); err != nil {
				return 0, err
			}
		}
		for _, args := range [][]string{{"umount", "ours" + i}, {"delete", "ours" + i}, {"purge", "ours" + i, "--yes"}} {
			if _, err := c.time(append([]string{"/lls/bin/lls"}, args...)...); err != nil {
				return 0, err
			}
		}
	}
	show("lls snapshot --mount, in a container", ours)
	show("lvcreate -s and mount, typed as root", theirs)
	took, err := sh("sh", "-c", "journalctl --no-pager -u lls-agent -o cat | grep 'path=[^ ]*/snapshot ' | grep -o 'took=[^ ]*' | cut -d= -f2 | tail -n "+strconv.Itoa(runs))
	if err != nil {
		return 0, err
	}
	fmt.Printf("%-38s %s\n", "  of which in the agent", strings.ReplaceAll(strings.TrimSpace(string(took)), "\n", " "))
	ratio = float64(median(ours)) / float64(median(theirs))
	fmt.Printf("%-38s %.2f\n", "  ratio of the medians", ratio)
	return ratio, nil
}

// single measures each step by itself, in the container.
func single(c *container) error {
	steps := []struct {
		what string
		args func(i string) []string
	}{
		{"lls snapshot, not mounted", func(i string) []string { return []string{"snapshot", dataset, "s" + i} }},
		{"lls mount", func(i string) []string { return []string{"mount", "s" + i, "/data"} }},
		{"lls umount", func(i string) []string { return []string{"umount", "s" + i} }},
		{"lls delete", func(i string) []string { return []string{"delete", "s" + i} }},
		{"lls purge", func(i string) []string { return []string{"purge", "s" + i, "--yes"} }},
	}
	all := make([][]time.Duration, len(steps))
	for n := range runs {
		for k, s := range steps {
			d, err := c.time(append([]string{"/lls/bin/lls"}, s.args(strconv.Itoa(n))...)...)
			if err != nil {
				return err
			}
			all[k] = append(all[k], d)
		}
	}
	for k, s := range steps {
		show(s.what, all[k])
	}
	return nil
}

// lists measures `lls list` with few and with many volumes.
func lists(c *container) error {
	have := 1 // the dataset
	for _, want := range []int{10, manyVolumes} {
		for ; have < want; have++ {
			if _, err := c.time("/lls/bin/lls", "snapshot", dataset, "l"+strconv.Itoa(have)); err != nil {
				return err
			}
		}
		var d []time.Duration
		for range runs {
			one, err := c.time("/lls/bin/lls", "list")
			if err != nil {
				return err
			}
			d = append(d, one)
		}
		show(fmt.Sprintf("lls list, %d volumes", want), d)
	}
	var d []time.Duration
	for n := range runs {
		one, err := c.time("/lls/bin/lls", "snapshot", dataset, "many"+strconv.Itoa(n))
		if err != nil {
			return err
		}
		d = append(d, one)
	}
	show(fmt.Sprintf("lls snapshot, beside %d volumes", manyVolumes), d)
	return nil
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func show(what string, d []time.Duration) {
	fmt.Printf("%-38s median %4d ms, %d to %d ms, %d runs\n", what, median(d).Milliseconds(), slices.Min(d).Milliseconds(), slices.Max(d).Milliseconds(), len(d))
}
