package cli

import (
	"slices"
	"strings"
	"testing"

	"lls/agent/api"
)

func testCommand() *Command {
	return &Command{
		Name: "make", Operands: "NAME [OTHER]", Min: 1, Max: 2,
		Flags: []Flag{{Name: "size", Value: "SIZE"}, {Name: "ro"}},
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, args := range []string{"a b --ro --size 5", "--ro --size 5 a b", "a --size=5 b --ro", "--size 5 --ro -- a b", "a --ro --size=5 -- b"} {
		p, err := parse("lls", testCommand(), strings.Fields(args))
		if err != nil || !slices.Equal(p.operands, []string{"a", "b"}) || p.flags["size"] != "5" || len(p.flags) != 2 {
			t.Errorf("%q: %+v, %v", args, p, err)
		}
	}
	p, err := parse("lls", testCommand(), []string{"-", "--", "--ro"})
	if err != nil || !slices.Equal(p.operands, []string{"-", "--ro"}) || len(p.flags) != 0 {
		t.Errorf("after --: %+v, %v", p, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "a b --ro", "--size\n5\na", "--\n-x", "--=", "-h", "--size=\na", "--ro=1", "a\xff", "-", "--size\n--ro"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\n")
		c := testCommand()
		p, err := parse("lls", c, args)
		if err != nil {
			e := api.AsError(err)
			if e.Code != api.Malformed || e.Hint == "" || !strings.HasPrefix(e.Message, "cannot make: ") {
				t.Errorf("%q: %+v", args, e)
			}
			return
		}
		if _, help := p.flags["help"]; help {
			return
		}
		if n := len(p.operands); n < c.Min || n > c.Max {
			t.Errorf("%q: %d operands", args, n)
		}
		again := []string{}
		for name, v := range p.flags {
			flag, known := c.flag(name)
			switch {
			case !known:
				t.Errorf("%q: unknown flag %q came through", args, name)
			case flag.Value == "":
				again = append(again, "--"+name)
			default:
				again = append(again, "--"+name+"="+v)
			}
		}
		q, err := parse("lls", c, append(append(again, "--"), p.operands...))
		if err != nil || !slices.Equal(p.operands, q.operands) || len(p.flags) != len(q.flags) {
			t.Errorf("%q reads as %+v, and that as %+v, %v", args, p, q, err)
		}
	})
}

func TestNearest(t *testing.T) {
	words := []string{"list", "info", "create", "snapshot", "mount", "umount", "delete", "undelete", "as", "json"}
	for typed, want := range map[string]string{
		"lsit": "list", "snap": "snapshot", "mont": "mount", "unmount": "umount", "creat": "create", "dleete": "delete",
		"x": "", "": "", "frobnicate": "", "zzzz": "", "a": "", strings.Repeat("list", 1000): "",
	} {
		if got := nearest(typed, words); got != want {
			t.Errorf("%.20q is near %q, want %q", typed, got, want)
		}
	}
}
