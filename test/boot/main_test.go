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
	shortTests = "^(TestALongFstab|TestRequired|TestSaveAndForget|TestOldNames|TestRawAccessEndsWithTheAgent)$"
	// rebootTest runs in processes of their own, after reboots of the guest that TestMain asks for when all else is well: first after a
	// shutdown, then after a power cut.
	rebootTest  = "TestAfterAHostReboot"
	rebootPhase = "LLS_BOOT_AFTER"
	shutdown    = "shutdown"
	powerCut    = "power cut"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("LLS_LAB") != "1" {
		os.Exit(m.Run()) // they say themselves why they skip
	}
	wanted := flag.Lookup("test.run").Value.String()
	switch os.Getenv(rebootPhase) {
	case shutdown:
		set("test.run", "^"+rebootTest+"$")
		if status := m.Run(); status != 0 {
			os.Exit(status)
		}
		os.Exit(reboot(powerCut, "--hard"))
	case powerCut:
		set("test.run", "^"+rebootTest+"$")
		os.Exit(m.Run())
	}
	set("test.skip", "^"+rebootTest+"$")
	if testing.Short() && wanted == "" {
		set("test.run", shortTests)
	}
	status := m.Run()
	if status != 0 || testing.Short() && wanted == "" || !regexp.MustCompile(wanted).MatchString(rebootTest) {
		os.Exit(status)
	}
	os.Exit(reboot(shutdown))
}

// reboot has the lab boot the guest again and run this program for what is to be seen then. It returns only when it fails.
func reboot(phase string, flags ...string) (status int) {
	fmt.Println("=== rebooting the guest:", phase)
	self, err := os.Executable()
	if err == nil {
		var lab string
		if lab, err = exec.LookPath("lab-reboot"); err == nil {
			argv := append([]string{lab}, flags...)
			err = syscall.Exec(lab, append(argv, "env", "LLS_LAB=1", rebootPhase+"="+phase, self, "-test.v"), os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "FAIL: cannot reboot the guest:", err)
	return 1
}

func set(name, value string) {
	if err := flag.Set(name, value); err != nil {
		panic(err)
	}
}
