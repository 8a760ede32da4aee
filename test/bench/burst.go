package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// calm is when the agent has nothing left to do.
const calm = 2 * time.Second

// bursts measures what the agent does while LVM's own commands make and remove volumes as fast as they go. The volumes carry LLS's tags
// and are visible to the container, so that each of them comes and goes at its /dev/mf.
func bursts(volumes, beside int) error {
	out, err := sh("systemctl", "show", "--property", "MainPID", "--value", "lls-agent.service")
	if err != nil {
		return err
	}
	pid := strings.TrimSpace(string(out))
	agentWas, childrenWas, err := cpu(pid)
	if err != nil {
		return err
	}
	var lvm time.Duration // CPU time
	run := func(argv ...string) error {
		cmd := exec.Command(argv[0], argv[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
		}
		lvm += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return nil
	}
	began := time.Now()
	for n := range volumes {
		id := []byte("burstaa") // an id is seven small letters and digits
		id[5], id[6] = byte('a'+n/26), byte('a'+n%26)
		name := fmt.Sprintf("burst%d", n)
		lv := name + "." + string(id)
		if err := run("lvcreate", "--type", "thin", "-V", "4M", "--thinpool", "pool", "-n", lv, "--setactivationskip", "y", "-ay", "--ignoreactivationskip",
			"--addtag", "lls.n="+name, "--addtag", "lls.o=host", "--addtag", "lls.s=live", "--addtag", "lls.v=v", "--addtag", "lls.a=ro",
			"--addtag", "lls.f=ext4", "lls"); err != nil {
			return err
		}
		if err := run("lvremove", "-y", "lls/"+lv); err != nil {
			return err
		}
	}
	took := time.Since(began)
	time.Sleep(calm)
	agent, children, err := cpu(pid)
	if err != nil {
		return err
	}
	agent, children = agent-agentWas, children-childrenWas
	what := fmt.Sprintf("%d volumes made, removed beside %d", volumes, beside)
	fmt.Printf("%-38s LVM's commands took %.1f s, %.1f s of CPU\n", what, took.Seconds(), lvm.Seconds())
	fmt.Printf("%-38s %.1f s of CPU, and %.1f s in the lvs it ran\n", "  the agent meanwhile", agent.Seconds(), children.Seconds())
	fmt.Printf("%-38s %.2f of LVM's CPU, %.2f of the time\n", "  ratio", float64(agent+children)/float64(lvm), float64(agent+children)/float64(took))
	return nil
}

// cpu is the CPU time of a process, and that of those of its children that it has waited for: utime and stime, cutime and cstime of
// proc_pid_stat(5).
func cpu(pid string) (own, children time.Duration, err error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ") ")+2:]))
	var ticks [4]int
	for i := range ticks {
		if ticks[i], err = strconv.Atoi(fields[11+i]); err != nil {
			return 0, 0, fmt.Errorf("cannot read /proc/%s/stat: %w", pid, err)
		}
	}
	const tick = time.Second / 100 // USER_HZ is 100 wherever Debian runs
	return time.Duration(ticks[0]+ticks[1]) * tick, time.Duration(ticks[2]+ticks[3]) * tick, nil
}
