package main

import (
	"strings"
	"testing"
)

// said is what go test -json says of a package with a test of each outcome.
const said = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"    p_test.go:1: fine\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"    p_test.go:2: looking\n"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"    run.go:39: needs a disk: a real one\n"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestSkip"}
{"Action":"output","Package":"p","Test":"TestIn/one","Output":"    p_test.go:3: needs a disk: a real one\n"}
{"Action":"skip","Package":"p","Test":"TestIn/one"}
{"Action":"skip","Package":"p","Test":"TestSilent"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
{"Action":"output","Package":"q","Test":"TestBad","Output":"    q_test.go:4: wrong\n"}
{"Action":"fail","Package":"q","Test":"TestBad"}
{"Action":"output","Package":"q","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
{"ImportPath":"r","Action":"build-output","Output":"r.go:1: undefined: x\n"}
{"Action":"output","Package":"s","Output":"?   \ts\t[no test files]\n"}
{"Action":"skip","Package":"s"}
`

func TestFollowShowsWhatFailedAndWhatWasSkipped(t *testing.T) {
	var b strings.Builder
	got, err := follow(strings.NewReader(said), &b)
	if err != nil {
		t.Fatal(err)
	}
	want := "ok  \tp\t0.1s\n    q_test.go:4: wrong\npanic: test timed out\nFAIL\tq\t0.1s\nr.go:1: undefined: x\n"
	if b.String() != want {
		t.Errorf("shown is\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	disk := known{"needs a disk: ", false}
	if got.tell(&b, []known{disk}) {
		t.Error("a test that is skipped without a reason is fine")
	}
	want = "skipped 2: needs a disk: a real one\n  p: TestSkip TestIn/one\nskipped 1: no reason was given\n  FAILED: p: TestSilent\n"
	if text, _, _ := strings.Cut(b.String(), "what is"); text != want {
		t.Errorf("told is\n%swant\n%s", text, want)
	}
	if !got.tell(&b, []known{disk, {"no reason was given", false}}) {
		t.Error("reasons that are known are not fine")
	}
	if got.tell(&b, nil) {
		t.Error("reasons that nobody knows are fine")
	}
}

func TestWhatOnlyTheLabCanRunIsRunThere(t *testing.T) {
	all := []known{{"needs a disk: ", true}}
	for pkg, want := range map[string]bool{"lls/test/boot": true, "lls/lvm/lvmtest": true, "lls/lvm": false, "lls/agent/container": false} {
		if knows(all, "needs a disk: a real one", pkg) != want {
			t.Errorf("a test of %s may be skipped: want %v", pkg, want)
		}
	}
}

func TestOutputThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := follow(strings.NewReader("{\"Action\":\"pass\"}\nFAIL\n"), &strings.Builder{}); err == nil {
		t.Error("no error")
	}
}

func TestASkipInTheLabIsSeen(t *testing.T) {
	o := read([]byte("--- PASS: TestA (0.1s)\n    --- SKIP: TestA/b (0.00s)\r\n--- SKIP: TestC (0.00s)\nskipped 3: because\n"))
	if strings.Join(o.skipped, " ") != "TestA/b TestC" || o.tests != 1 || len(o.notes) != 1 {
		t.Errorf("read %+v", o)
	}
}

func TestReadKeepsTheLastWordsOfWhatFailed(t *testing.T) {
	o := read([]byte(strings.Join([]string{
		"=== RUN   TestGood", "    p_test.go:1: fine", "--- PASS: TestGood (0.1s)",
		"=== RUN   TestBad", "    p_test.go:2: two", "=== RUN   TestBad/one", "    p_test.go:3: three", "    p_test.go:4: four",
		"    p_test.go:5: five", "    p_test.go:6: wrong", "--- FAIL: TestBad (0.1s)", "    --- FAIL: TestBad/one (0.1s)", "FAIL",
		mark + "p: FAILED in 1s", mark + "q: passed in 1s",
	}, "\r\n")))
	want := "    p_test.go:3: three\n    p_test.go:4: four\n    p_test.go:5: five\n    p_test.go:6: wrong\n--- FAIL: TestBad (0.1s)"
	if got := strings.Join(o.why, "\n"); got != want || o.tests != 1 || o.passed["p"] || !o.passed["q"] {
		t.Errorf("%q, %+v", got, o)
	}
}
