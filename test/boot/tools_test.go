package boot

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"lls/test/kit"
)

func TestOldNames(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		for _, name := range []string{"lls_create_partition.sh", "lls_create_snapshot.sh", "lls_delete_partition.sh"} {
			if r := c.Exec(t, "/lls/tools/"+name); r.Exit != 2 || !strings.Contains(r.Stderr, "Usage: "+name+" ") {
				t.Errorf("run bare: %v", r)
			}
		}
		c.Must(t, "/lls/tools/lls_create_partition.sh", "part", "64M", "/data")
		c.Must(t, "/lls/tools/lls_create_snapshot.sh", dataset, "snap", "/srv")
		same(t, "after the old names", mounted(t, c), map[string]string{"/data": "part", "/srv": "snap"})
		if list := c.Must(t, "/lls/tools/lls_list_partitions.sh"); !strings.Contains(list, "part") || !strings.Contains(list, "snap") {
			t.Errorf("the list says\n%s", list)
		}
		for _, name := range []string{"part", "snap"} {
			c.Do(t, "umount", name)
			c.Must(t, "/lls/tools/lls_delete_partition.sh", name)
			if v := kit.FindLV(t, c.Name, name); !strings.HasPrefix(v.Tag("lls.s"), "trash:") {
				t.Errorf("after the old name of delete: %+v", v)
			}
			c.Do(t, "purge", name, "--yes")
		}
		if r := c.Exec(t, "/lls/tools/lls_create_partition.sh", "--size=1G", "64M"); r.Exit != 2 {
			t.Errorf("a name that looks like an option: %v", r)
		}
	})
}

func TestConfigTellsWhatApplies(t *testing.T) {
	kinds(t, func(t *testing.T, c *kit.Container) {
		type config struct {
			Container         string
			DefaultVisibility string `json:"default_visibility"`
			DefaultFS         string `json:"default_fs"`
			Pools             []string
			Limits            struct{ Volumes int }
		}
		now := func() (read config) {
			t.Helper()
			if err := json.Unmarshal([]byte(c.Must(t, "cat", "/lls/config.json")), &read); err != nil {
				t.Fatal(err)
			}
			return read
		}
		was := now()
		if was.Container != c.Name || !slices.Equal(was.Pools, []string{"main"}) || was.DefaultVisibility != "hidden" || was.DefaultFS != "ext4" {
			t.Errorf("/lls/config.json says %+v", was)
		}
		t.Run("reload", func(t *testing.T) {
			kit.WithConfig(t, "\n[limits]\nvolumes = 41\n")
			if is := now(); is.Limits.Volumes != 41 || is.Container != c.Name {
				t.Errorf("after a reload it says %+v", is)
			}
		})
		if is := now(); is.Limits != was.Limits {
			t.Errorf("it was %+v and is %+v", was, is)
		}
	})
}
