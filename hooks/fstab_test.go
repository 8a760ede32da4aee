package hooks

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseReadsTheFieldsOfALine(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Line
	}{
		"four fields":             {"lls:a /data lls ro", Line{Source: "lls:a", Target: "/data", Type: "lls", Options: "ro"}},
		"six fields and more":     {"a b c d 0 0 e # f\n", Line{Source: "a", Target: "b", Type: "c", Options: "d"}},
		"tabs and leading blanks": {" \t a\t\tb  c\td\n", Line{Source: "a", Target: "b", Type: "c", Options: "d"}},
		"no options":              {"a b c\n", Line{Source: "a", Target: "b", Type: "c"}},
		"carriage return":         {"a b c d\r\n", Line{Source: "a", Target: "b", Type: "c", Options: "d"}},
		"octal escapes":           {`a\040b /x\011\134 c d\054e`, Line{Source: "a b", Target: "/x\t\\", Type: "c", Options: "d,e"}},
		"what is no escape":       {`\08 \400 \\040 \0`, Line{Source: `\08`, Target: `\400`, Type: `\ `, Options: `\0`}},
		"a comment":               {" # a b c\n", Line{}},
		"a blank line":            {" \t\r\n", Line{}},
		"a number sign inside":    {"a#1 b c\n", Line{Source: "a#1", Target: "b", Type: "c"}},
		"one field":               {"a\n", Line{Source: "a", Problem: "the line has no directory to mount at"}},
		"two fields":              {"a b", Line{Source: "a", Target: "b", Problem: "the line has no file system type"}},
		"a NUL byte":              {"a b\x00 c", Line{Source: "a", Target: "b\x00", Type: "c", Problem: "the line has a NUL byte"}},
		"an escaped NUL byte":     {`a b\000 c`, Line{Source: "a", Target: "b\x00", Type: "c", Problem: "the line has a NUL byte"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Number, c.want.Text = 1, c.text
			f := Parse([]byte(c.text))
			if len(f.Lines) != 1 || f.Lines[0] != c.want {
				t.Errorf("got %#v\nwant %#v", f.Lines, c.want)
			}
		})
	}
}

func TestParseMarksALineThatIsTooLong(t *testing.T) {
	fits := "lls:a /" + strings.Repeat("x", MaxLine-len("lls:a / lls\n")) + " lls\n"
	f := Parse([]byte(fits + "y" + fits))
	if got := []bool{f.Lines[0].Problem == "", f.Lines[1].Problem == ""}; !reflect.DeepEqual(got, []bool{true, false}) {
		t.Errorf("readable: %v", got)
	}
}

func TestParseDoesNotLookIntoAFileThatIsTooLong(t *testing.T) {
	text := strings.Repeat("lls:a /b lls x-lls.required\n", MaxFile/28+1)
	f := Parse([]byte(text))
	if string(f.Bytes()) != text {
		t.Error("bytes are lost")
	}
	plan := f.Plan(nil)
	if len(plan.Mounts) != 0 || len(plan.Refused) != 1 || plan.Refused[0].Reason != TooMuch || !plan.Refused[0].Required {
		t.Errorf("got %+v", plan)
	}
	if _, _, err := Add(f, Entry{Name: "a", Target: "/a"}); err == nil {
		t.Error("it was edited")
	}
	if _, _, err := Remove(f, "a", asWritten); err == nil {
		t.Error("it was edited")
	}
}

func TestEscapedFieldIsReadBackAsItWas(t *testing.T) {
	for s, want := range map[string]string{
		"/data": "/data", "/my data": `/my\040data`, "/a\tb\nc": `/a\011b\012c`, `/a\040`: `/a\134040`, "#a#": `\043a#`, "\x7f": `\177`, "/ä": "/ä",
	} {
		got := Escape(s)
		if got != want || unescape(got) != s {
			t.Errorf("Escape(%q) = %q, want %q; back: %q", s, got, want, unescape(got))
		}
	}
}

// samples are what the fuzzers start from.
var samples = []string{
	"", "\n", "\r\n", "# comment", "lls:a /data lls noauto,x-lls.auto 0 0\n", "lls:a /data lls noauto,x-lls.auto 0 0",
	"lls:o/a\t/a\\040b ext4 ro,noatime\r\n/dev/mf/b /a\\040b/c xfs defaults 0 2\r\n",
	"LABEL=\"x\" /x auto nofail\nUUID=1-2 /x/../y ext4 dev,suid\n", "lls:a /run/x lls x-lls.required\nlls:a /../tmp lls\n",
	"/dev/sda1 / ext4 errors=remount-ro 0 1\nproc /proc proc defaults\ntmpfs\n", "lls:a\x00 /b lls\nlls:\\012 /c lls\n", "data /data lls x-lls.auto",
	"lls:a /a lls ro\nlls:b /a lls\nlls:a /a/ lls\n", "lls:a /b\nlls:a\n\\054 \\", "lls:a none swap sw\nlls:a /a lls noauto",
	"tmpfs /data tmpfs\n/dev/sda1 /data ext4 nofail\nlls:a /data/x lls\nlls:b /data lls\nLABEL=xy /data auto\nrootfs / rootfs",
	"lls:" + long + " /a lls suid,x-lls.required\n" + long + " /" + long + " lls\n/dev/mf/a /" + long + " ext4\n",
}

func FuzzParse(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s))
	}
	find := func(wanted []Tag) map[Tag]string {
		found := map[Tag]string{}
		for _, t := range wanted {
			if len(t.Value)%2 == 0 {
				found[t] = "o/" + Escape(t.Value)
			}
		}
		return found
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file := Parse(b)
		if string(file.Bytes()) != string(b) {
			t.Fatalf("printed %q", file.Bytes())
		}
		if again := Parse(file.Bytes()); !reflect.DeepEqual(again, file) {
			t.Fatalf("parsed again: %#v, before %#v", again, file)
		}
		checkPlan(t, file.Plan(find))
		checkPlan(t, file.Plan(nil))
	})
}
