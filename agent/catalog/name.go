// Package catalog knows what the volumes of a host are in LLS's words: it reads and writes the LVM tags that are the only
// truth about them, finds volumes by the names people type, and says in one place who may do what with them. It is pure.
package catalog

import (
	"errors"
	"fmt"
	"strings"

	"lls/lvm"
)

// MaxName is the longest name of a volume. With every hyphen doubled, the id behind it and a volume group's name before
// it, a device name still fits the kernel's 127 (DM_NAME_LEN).
const MaxName = 40

// ErrBadName is what every error about a name that cannot be read wraps.
var ErrBadName = errors.New("not a usable name")

// Name is the name of a volume, unique among the live ones of its owner.
type Name string

// ParseName checks a name: 1 to MaxName letters, digits and ". _ + -", a letter or digit first, and none of the words that
// LVM keeps for itself.
func ParseName(s string) (Name, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("a name is missing: %w", ErrBadName)
	case len(s) > MaxName:
		return "", fmt.Errorf("%.20q… is longer than %d characters: %w", s, MaxName, ErrBadName)
	case !alnum(s[0]):
		return "", fmt.Errorf("%q does not begin with a letter or digit: %w", s, ErrBadName)
	}
	for i := range len(s) {
		if !alnum(s[i]) && !strings.ContainsRune("._+-", rune(s[i])) {
			return "", fmt.Errorf("%q has a character that is none of A-Z a-z 0-9 . _ + -: %w", s, ErrBadName)
		}
	}
	if strings.Contains(s, "..") {
		return "", fmt.Errorf("%q has two dots in a row: %w", s, ErrBadName)
	}
	if _, err := lvm.ParseName(s + "." + strings.Repeat("a", idLen)); err != nil {
		return "", fmt.Errorf("%q is, or holds, a word that LVM keeps for itself: %w", s, ErrBadName)
	}
	return Name(s), nil
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Owner is who a volume belongs to: a container, known by its name and by the token in its lls.id, or the host.
type Owner struct{ Name, Token string }

// Host is the owner of what belongs to no container.
func Host() Owner { return Owner{Name: "host"} }

// IsHost tells the host from containers. A container called "host" still has a token.
func (o Owner) IsHost() bool { return o == Host() }

// String is NAME#TOKEN, or "host".
func (o Owner) String() string {
	if o.IsHost() {
		return o.Name
	}
	return o.Name + "#" + o.Token
}

// ParseOwner reads what String prints.
func ParseOwner(s string) (Owner, error) {
	if s == Host().Name {
		return Host(), nil
	}
	at := strings.LastIndexByte(s, '#')
	if at < 1 || at == len(s)-1 {
		return Owner{}, fmt.Errorf("cannot read owner %q: it is not NAME#TOKEN", s)
	}
	for _, c := range []byte(s[at+1:]) {
		if !alnum(c) {
			return Owner{}, fmt.Errorf("cannot read owner %q: its token is no token", s)
		}
	}
	return Owner{Name: s[:at], Token: s[at+1:]}, nil
}

// Ref is how people name a volume: NAME, or OWNER/NAME, where OWNER may be NAME#TOKEN.
type Ref struct {
	Owner string // empty for NAME
	Name  Name
}

// ParseRef reads a reference. Errors wrap ErrBadName.
func ParseRef(s string) (Ref, error) {
	owner, name, found := strings.Cut(s, "/")
	if !found {
		owner, name = "", s
	} else if owner == "" || owner[0] == '.' || len(owner) > 128 {
		return Ref{}, fmt.Errorf("%.20q is neither NAME nor OWNER/NAME: %w", s, ErrBadName)
	}
	n, err := ParseName(name)
	if err != nil {
		return Ref{}, err
	}
	return Ref{Owner: owner, Name: n}, nil
}
