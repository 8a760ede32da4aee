// Package boot shows, in the lab's guest, what LLS does by itself: mounts that come back whenever a container or the host starts,
// devices at /dev/mf that are always true, news of changes made behind its back, and what root's programs see on the message bus.
// The truth is in /proc, in LVM, and in what a container's init found before it did anything else.
package boot

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

const (
	// shortTests are what -test.short runs, for the guests that are not the main one.
	shortTests = "^(TestRequired|TestSaveAndForget|TestOldNames)$"
	// rebootTest runs in a process of its own, after a reboot of the guest that TestMain asks for when all else is well.
	rebootTest  = "TestAfterAHostReboot"
	rebootPhase = "LLS_BOOT_AFTER_REBOOT"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("LLS_LAB") != "1" {
		os.Exit(m.Run()) // they say themselves why they skip
	}
	if os.Getenv(rebootPhase) == "1" {
		set("test.run", "^"+rebootTest+"$")
		os.Exit(m.Run())
	}
	wanted := flag.Lookup("test.run").Value.String()
	set("test.skip", "^"+rebootTest+"$")
	if testing.Short() && wanted == "" {
		set("test.run", shortTests)
	}
	status := m.Run()
	if status != 0 || testing.Short() && wanted == "" || !regexp.MustCompile(wanted).MatchString(rebootTest) {
		os.Exit(status)
	}
	fmt.Println("=== rebooting the guest")
	self, err := os.Executable()
	if err == nil {
		var lab string
		if lab, err = exec.LookPath("lab-reboot"); err == nil {
			err = syscall.Exec(lab, []string{lab, "env", "LLS_LAB=1", rebootPhase + "=1", self, "-test.v"}, os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "FAIL: cannot reboot the guest:", err)
	os.Exit(1)
}

func set(name, value string) {
	if err := flag.Set(name, value); err != nil {
		panic(err)
	}
}
