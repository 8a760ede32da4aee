package policy

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLinesOfKeys(t *testing.T) {
	text := `top = 1 # 1
a.b . "c d" = 2 # 2
'quo"ted'.x = '''
[not.a.table]
= ''''' # 5, and the string ends in quotes of its own
esc = "\\\"" # 6
"\u00e9\t" = """\
\"""
[no] # " """ # 9
[ one . "two" ] # 10
k = [ # 11
  [1, 2], # 12
  { x = 1, y.z = "}" }, # 13
  { # 14
    x = 2, # 15
  },
] # a ]
when = 1979-05-27 07:32:00 # 18
[[ rules ]] # 19
pool = "]" # 20
[rules.limits] # 21
volumes = 1 # 22
[[rules]] # 23
limits.volumes = 2 # 24
[[rules.deep]] # 25
[rules.deep.er] # 26
z = +1_000e-1 # 27
`
	if _, err := toml.Decode(text, &map[string]any{}); err != nil {
		t.Fatal(err)
	}
	found := findLines(text)
	for path, want := range map[string]int{
		"top": 1, "a": 2, "a b": 2, "a b c_d": 2, `quo"ted`: 3, `quo"ted x`: 3, "esc": 6, "é\t": 7, "one": 10, "one two": 10, "one two k": 11,
		"one two k [0]": 12, "one two k [0] [1]": 12, "one two k [1]": 13, "one two k [1] y z": 13, "one two k [2]": 14, "one two k [2] x": 15,
		"one two when": 18, "rules": 19, "rules [0]": 19, "rules [0] pool": 20, "rules [0] limits": 21, "rules [0] limits volumes": 22,
		"rules [1]": 23, "rules [1] limits": 24, "rules [1] limits volumes": 24, "rules [1] deep": 25, "rules [1] deep [0]": 25, "rules [1] deep [0] er z": 27,
	} {
		var parts []string
		for _, part := range strings.Split(path, " ") {
			parts = append(parts, strings.ReplaceAll(part, "_", " "))
		}
		if got, ok := found[joined(parts)]; got != want || !ok {
			t.Errorf("%s is on line %d, want %d", path, got, want)
		}
	}
	if got := found.of([]string{"rules", "[1]", "nowhere", "at all"}); got != 23 {
		t.Errorf("what is not there is on line %d, want that of what is around it", got)
	}
	if got := found.of([]string{"nowhere"}); got != 0 {
		t.Errorf("what is not there is on line %d", got)
	}
}

// FuzzLines holds the finder against the decoder: each key that the one finds has a line from the other, and stands there.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{
		"a = 1\n[b]\nc = [{d = 1}, [2, 3]]\n[[e]]\n[e.f]\ng = '''x'''\n", "\"a\\tb\".'c' = \"\"\"\n\\\"\"\"\"\"\"\n", "a={b={c=[],},# \n}", "\xef\xbb\xbfa=1\r\nb=2",
		"[[a.b]]\n[[a.b]]\n[a.b.c]\nd=inf", "''=1\n[\"\"]", "a=[[],[{}]]\n[b.\"[0]\"]", "x = 07:32:00.5 # ,\ny = 0xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := findLines(text)
		top := map[string]any{}
		if _, err := toml.Decode(text, &top); err != nil {
			return
		}
		lines := strings.Split(text, "\n")
		var walk func(path []string, v any)
		walk = func(path []string, v any) {
			if len(path) > 0 {
				line, ok := found[joined(path)]
				if !ok || line < 1 || line > len(lines) {
					t.Fatalf("%q is on line %d of\n%s", path, line, text)
				}
				if last := path[len(path)-1]; last[:min(1, len(last))] != "[" && !strings.ContainsAny(lines[line-1], `"'`) && !strings.Contains(lines[line-1], last) {
					t.Fatalf("%q is not on line %d of\n%s", path, line, text)
				}
			}
			switch v := v.(type) {
			case map[string]any:
				for k, inner := range v {
					walk(below(path, k), inner)
				}
			case []any:
				for i, inner := range v {
					walk(below(path, element(i)), inner)
				}
			case []map[string]any:
				for i, inner := range v {
					walk(below(path, element(i)), inner)
				}
			}
		}
		walk(nil, top)
	})
}
