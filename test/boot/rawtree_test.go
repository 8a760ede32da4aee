package boot

import (
	"testing"

	"lls/test/kit"
)

// TestRawAccessWhereTheTreesAreReadOnly has a privileged container's root make what the host shows it read-only, for the host too, over and
// over: what it may not open any more it cannot.
func TestRawAccessWhereTheTreesAreReadOnly(t *testing.T) {
	kit.Guest(t)
	c := kit.TempContainer(t, "tight", "--privileged")
	names := []string{"first", "second", "third"}
	t.Cleanup(func() {
		for _, name := range names {
			kit.Agent(t, "delete", "tight/"+name)
			kit.Eventually(t, name+" can be purged", func() bool {
				return len(kit.FindLVs(t, "tight", name)) == 0 || kit.Agent(t, "purge", "tight/"+name, "--yes").Exit == 0
			})
		}
		kit.Run(t, "lxc-stop", "-k", "-n", c.Name)
	})
	raw(t, "rw")
	for _, name := range names {
		own(t, c, name)
		may(t, c, "/dev/mf/"+name, "rw")
		c.Sh(t, "mkdir -p /run/kept; touch /run/kept/"+name+"; mount --bind /dev/mf/"+name+" /run/kept/"+name)
	}
	c.Sh(t, "mount -o remount,ro /dev/mf; mount -o remount,ro /lls; ! touch /lls/x")
	kit.Agent(t, "delete", "tight/first").Want(t, 0)
	may(t, c, "/run/kept/first", "")
	may(t, c, "/run/kept/second", "rw")

	loop := c.Background(t, "sh", "while :; do mount -o remount,ro /dev/mf; mount -o remount,ro /lls; done 2>/dev/null")
	kit.Agent(t, "delete", "tight/second").Want(t, 0)
	may(t, c, "/run/kept/second", "")
	kit.KillAgent(t)
	kit.Agent(t, "delete", "tight/third").Want(t, 0)
	may(t, c, "/run/kept/third", "")
	for _, name := range names { // nobody holds what was deleted
		kit.Eventually(t, name+" can be purged", func() bool { return kit.Agent(t, "purge", "tight/"+name, "--yes").Exit == 0 })
	}
	c.Must(t, "kill", "-9", loop)
	kit.Eventually(t, "LLS works in it again", func() bool { return c.LLS(t, "list").Exit == 0 })
}
