package hooks

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath is PATH_MAX of limits.h, the final NUL included.
const maxPath = 4096

// reserved are the trees that are not for volumes. The kernel's and LLS's own are refused by the agent wherever a link leads,
// too; those of systemd are refused because a mount that is made before init would vanish under systemd's.
var reserved = []struct {
	path   string
	reason Reason
	why    string
}{
	{"/proc", Forbidden, "belongs to the kernel"},
	{"/sys", Forbidden, "belongs to the kernel"},
	{"/lls", Forbidden, "belongs to LLS"},
	{"/dev/shm", Shadowed, "is mounted over by systemd at boot"},
	{"/dev", Forbidden, "belongs to the kernel"},
	{"/run", Shadowed, "is mounted over by systemd at boot"},
	{"/tmp", Shadowed, "is mounted over by systemd at boot"},
}

// CheckTarget cleans the path of a directory to mount at. Where nothing may be mounted, reason is not empty and why tells it in
// words. It knows no links: whoever resolves them checks what they lead to again.
func CheckTarget(target string) (clean string, reason Reason, why string) {
	switch {
	case !strings.HasPrefix(target, "/"):
		return "", BadTarget, "is not an absolute path"
	case len(target) >= maxPath:
		return "", BadTarget, "is too long"
	case hasControl(target):
		return "", BadTarget, "has a control character"
	}
	clean = path.Clean(target)
	if clean == "/" {
		return "", Forbidden, "is the root directory"
	}
	for _, r := range reserved {
		if clean == r.path || strings.HasPrefix(clean, r.path+"/") {
			if clean != r.path {
				return "", r.reason, "lies below " + r.path + ", which " + r.why
			}
			return "", r.reason, r.why
		}
	}
	return clean, "", ""
}

// hasControl finds what could forge a line of a log or move a terminal's cursor.
func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// tidy makes a field fit to be shown: at most 80 characters, all of them printable.
func tidy(s string) string {
	const most = 80
	if len(s) > most*utf8.UTFMax {
		s = s[:most*utf8.UTFMax]
	}
	shown := []rune(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s))
	if len(shown) > most {
		return string(shown[:most-3]) + "..."
	}
	return string(shown)
}

// quote is tidy between quotation marks.
func quote(s string) string { return `"` + tidy(s) + `"` }
