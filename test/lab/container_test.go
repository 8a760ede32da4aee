package main

import (
	"errors"
	"strings"
	"testing"
)

func TestParseContainer(t *testing.T) {
	for _, test := range []struct {
		args string
		want containerSpec
	}{
		{"web", containerSpec{name: "web"}},
		{"web --privileged", containerSpec{name: "web", privileged: true}},
		{"--privileged web", containerSpec{name: "web", privileged: true}},
		{"web --map 200000 --no-start", containerSpec{name: "web", base: 200000, stopped: true}},
	} {
		if got, err := parseContainer(strings.Fields(test.args)); err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v", test.args, got, err)
		}
	}
	for _, args := range []string{"", "../x", "a b", "web --map 5", "web --map", "web --privileged --map 200000", "--frob web"} {
		if got, err := parseContainer(strings.Fields(args)); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %+v, %v, want a usage error", args, got, err)
		}
	}
}

func TestContainerConfigIsTheDistributions(t *testing.T) {
	defaults := "# a comment\nlxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.apparmor.profile = generated\n"
	for _, test := range []struct {
		spec          containerSpec
		want, without []string
	}{
		{containerSpec{name: "u", base: 165536},
			[]string{"/common.conf\n", "/userns.conf\n", "lxc.idmap = u 0 165536 65536\n", "lxc.idmap = g 0 165536 65536\n", "lxc.apparmor.profile = generated\n"},
			[]string{"veth", "lxcbr0"}},
		{containerSpec{name: "p", privileged: true},
			[]string{"/common.conf\n", "lxc.rootfs.path = dir:/var/lib/lxc/p/rootfs\n"},
			[]string{"idmap", "userns.conf", "veth"}},
	} {
		got := containerConfig(test.spec, defaults)
		for _, s := range test.want {
			if !strings.Contains(got, s) {
				t.Errorf("%s: no %q in\n%s", test.spec.name, s, got)
			}
		}
		for _, s := range test.without {
			if strings.Contains(got, s) {
				t.Errorf("%s: %q in\n%s", test.spec.name, s, got)
			}
		}
	}
}
