package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRecipeKeyIsStableAndTellsRecipesApart(t *testing.T) {
	keys := map[string]bool{}
	for _, b := range []backendName{backendUML, backendQEMU} {
		for _, s := range []suite{suiteTrixie, suiteBookworm} {
			key := guestRecipe(b, s).key()
			if again := guestRecipe(b, s).key(); again != key {
				t.Errorf("%s %s: two keys for one recipe: %s, %s", b, s, key, again)
			}
			keys[key] = true
		}
	}
	if len(keys) != 4 {
		t.Errorf("got %d keys for 4 recipes: %v", len(keys), keys)
	}
}

func TestRecipeKeyFollowsEveryChange(t *testing.T) {
	key := guestRecipe(backendUML, suiteTrixie).key()
	for name, change := range map[string]func(*recipe){
		"a package": func(r *recipe) { r.Packages = append(r.Packages, "sl") },
		"a file":    func(r *recipe) { r.Files["/etc/hostname"] = imageFile{0o644, "other\n"} },
		"a mode":    func(r *recipe) { r.Files["/etc/hostname"] = imageFile{0o600, "lab\n"} },
		"a link":    func(r *recipe) { r.Links["/x"] = "/y" },
		"a kernel":  func(r *recipe) { r.Kernel = "other" },
	} {
		r := guestRecipe(backendUML, suiteTrixie)
		change(&r)
		if r.key() == key {
			t.Errorf("%s changed, the key did not", name)
		}
	}
}

func TestKeepProfilesKeepsFoldersAndMatches(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lxc-containers", "usr.bin.lxc-start", "firefox"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "abstractions"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keepProfiles(dir, []string{"lxc-containers", "usr.bin.lxc-*"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if len(names) != 3 || names[0] != "abstractions" || names[1] != "lxc-containers" || names[2] != "usr.bin.lxc-start" {
		t.Errorf("left: %v", names)
	}
}
