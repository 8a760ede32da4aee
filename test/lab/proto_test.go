package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"testing"
)

func TestFramesArriveAsSent(t *testing.T) {
	var line bytes.Buffer
	fw := &frameWriter{w: &line}
	if err := fw.send(frameHello, nil); err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte{0, '\n', 0xff}, maxFrame)
	if n, err := (stream{fw, frameStdout}).Write(long); err != nil || n != len(long) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if err := fw.sendJSON(frameExit, exitReport{3}); err != nil {
		t.Fatal(err)
	}
	if kind, payload, err := readFrame(&line); kind != frameHello || len(payload) != 0 || err != nil {
		t.Fatalf("got %q %q %v", kind, payload, err)
	}
	var out []byte
	for {
		kind, payload, err := readFrame(&line)
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameExit {
			var report exitReport
			if err := json.Unmarshal(payload, &report); err != nil || report.Status != 3 {
				t.Fatalf("got %s, %v", payload, err)
			}
			break
		}
		out = append(out, payload...)
	}
	if !bytes.Equal(out, long) {
		t.Error("output changed on its way")
	}
	if _, _, err := readFrame(&line); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a cut head":    "o\x00\x00",
		"a cut payload": "o\x00\x00\x00\x05abc",
		"a wild length": "o\xff\xff\xff\xff",
	} {
		if _, _, err := readFrame(bytes.NewReader([]byte(text))); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v, want an error other than EOF", name, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("o\x00\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		kind, payload, err := readFrame(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := (&frameWriter{w: &again}).sendOne(kind, payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, again.Bytes()) {
			t.Errorf("%q was read as %q", text, again.Bytes())
		}
	})
}

func TestExitStatusIsTheShells(t *testing.T) {
	for _, test := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 137}, {"kill -15 $$", 143}} {
		cmd := exec.Command("sh", "-c", test.script)
		if err := cmd.Run(); (err == nil) != (test.want == 0) {
			t.Fatal(err)
		}
		if got := exitStatus(cmd.ProcessState); got != test.want {
			t.Errorf("%s: got %d, want %d", test.script, got, test.want)
		}
	}
	if got := startStatus(exec.Command("/nonexistent").Run()); got != 127 {
		t.Errorf("a missing command: got %d, want 127", got)
	}
	if got := startStatus(exec.Command(t.TempDir()).Run()); got != 126 {
		t.Errorf("a folder as a command: got %d, want 126", got)
	}
}
