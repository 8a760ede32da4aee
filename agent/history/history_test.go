package history

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"lls/policy"
)

func TestWhatIsSavedIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h := New()
	h.Ages["aaaaaaa"] = policy.Age{Owner: "c1#t1", Unused: 3 * time.Hour, Announced: true}
	h.Trims["aaaaaaa"] = Trim{Before: true, Since: time.Minute}
	h.Samples["main"] = []policy.Sample{{At: time.Unix(1, 0).UTC(), Run: "r", Observed: 1, Data: 2, Metadata: 3}}
	h.Levels["main data"] = 80
	h.Mapped["aaaaaaa"] = 4096
	text, err := h.Text()
	if err == nil {
		err = Save(path, text)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v; want %+v", got, err, h)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%v is left", files)
	}
}

func TestWhatCannotBeReadIsForgotten(t *testing.T) {
	dir := t.TempDir()
	for text, wrong := range map[string]bool{"": true, "{": true, `{"version":99}`: true, `{"version":1}`: false} {
		path := filepath.Join(dir, "h")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := Load(path)
		if (err != nil) != wrong {
			t.Errorf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(h, New()) {
			t.Errorf("%q: %+v", text, h)
		}
	}
	if h, err := Load(filepath.Join(dir, "none")); err != nil || !reflect.DeepEqual(h, New()) {
		t.Errorf("no file: %+v, %v", h, err)
	}
}
