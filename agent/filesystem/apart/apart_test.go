package apart

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnswersAreReadAsTheyWereWritten(t *testing.T) {
	for _, a := range []Answer{{}, {Done: 1 << 63}, {Errno: unix.EOPNOTSUPP}, {Done: 7, Errno: unix.EIO}} {
		if got, err := ParseAnswer(a.String()); err != nil || got != a {
			t.Errorf("%+v became %+v, %v", a, got, err)
		}
	}
	for _, s := range []string{"", "\n", "0\n", "0 0", " 0\n", "0 \n", "-1 0\n", "0 -1\n", "0 0 0\n", "0 70000\n", "failed 0 \"\" \"no operation\"\n"} {
		if got, err := ParseAnswer(s); err == nil {
			t.Errorf("%q is %+v", s, got)
		}
	}
}

func TestWhatIsNoOperationIsLeftToOthers(t *testing.T) {
	for _, args := range [][]string{nil, {}, {""}, {"grow"}, {"unmount", "1", "2"}, {OpTrim}, {OpTrim, "0"}, {OpTrim, "0", "-1"}, {OpSync, "0"}, {OpGrowExt4, "x"}, {OpGrowXFS, "1"}} {
		if a, ours := Run(args); ours {
			t.Errorf("%q: %+v", args, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("0 0\n")
	f.Add(Answer{Done: 4096, Errno: unix.EINVAL}.String())
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAnswer(s)
		if err != nil {
			return
		}
		if again, err := ParseAnswer(a.String()); err != nil || again != a {
			t.Errorf("%q: %+v became %+v, %v", s, a, again, err)
		}
	})
}
