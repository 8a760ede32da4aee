package hooks

import "strings"

// options is the fourth field of a line as LLS reads it: what it acts on, and what it cannot give. Of options that
// contradict each other the last one counts, as it does for mount(8).
type options struct {
	readOnly, noAtime, discard bool
	noauto, nofail             bool
	auto, required             bool // x-lls.auto, x-lls.required
	refused                    []string
	dropped                    []string // not given, but no reason to refuse the mount
}

// harmless are options that say what LLS does anyway, that only concern who may mount, or when, or that trade speed for what LLS does not
// give up (mount(8), ext4(5), xfs(5)).
var harmless = map[string]bool{
	"": true, "defaults": true, "async": true, "exec": true, "nodev": true, "nosuid": true,
	"user": true, "nouser": true, "users": true, "owner": true, "noowner": true, "group": true, "nogroup": true, "_netdev": true,
	"diratime": true, "nodiratime": true, "acl": true, "user_xattr": true, "errors=remount-ro": true, "nouuid": true, "inode64": true,
	"norelatime": true, "lazytime": true, "nolazytime": true, "iversion": true, "noiversion": true,
	"barrier": true, "barrier=1": true, "nobarrier": true, "barrier=0": true, "data=ordered": true, "data=writeback": true, "delalloc": true, "nodelalloc": true,
	"inode32": true, "largeio": true, "nolargeio": true, "swalloc": true, "attr2": true, "ikeep": true, "noikeep": true,
}

// lesser are options whose place is taken by what a file system does by default, which is less in some way: that is told.
func lesser(option string) bool {
	switch option {
	case "noexec", "sync", "dirsync", "mand", "data=journal":
		return true
	}
	name, _, _ := strings.Cut(option, "=")
	return name == "commit" || name == "logbufs" || name == "logbsize" || name == "allocsize" || name == "stripe"
}

// parseOptions judges every option against the list of those that are known to be harmless. What is not on it is refused.
func parseOptions(field string) options {
	var o options
	for option := range strings.SplitSeq(field, ",") {
		switch option {
		case "ro":
			o.readOnly = true
		case "rw":
			o.readOnly = false
		case "noatime":
			o.noAtime = true
		case "atime", "relatime", "strictatime":
			o.noAtime = false
		case "discard":
			o.discard = true
		case "nodiscard":
			o.discard = false
		case "noauto":
			o.noauto = true
		case "auto":
			o.noauto = false
		case "nofail":
			o.nofail = true
		case "x-lls.auto":
			o.auto = true
		case "x-lls.required":
			o.required = true
		default:
			switch {
			case lesser(option):
				o.dropped = append(o.dropped, option)
			case !harmless[option] && !someoneElses(option):
				o.refused = append(o.refused, option)
			}
		}
	}
	return o
}

// someoneElses is true for the options that fstab(5) leaves to other programs. One with a quote may have a comma in its
// value, and is not understood here.
func someoneElses(option string) bool {
	if strings.Contains(option, `"`) || strings.HasPrefix(option, "x-lls.") {
		return false
	}
	return strings.HasPrefix(option, "x-") || strings.HasPrefix(option, "comment=")
}

// forLLS tells whether the line speaks to LLS by its options.
func (o options) forLLS() bool { return o.auto || o.required }

// byHand tells a line that waits for `mount -t lls`: only type lls gives noauto that meaning. On other types noauto just keeps
// the container's own init out of it. A required mount cannot wait for anybody.
func (o options) byHand(fsType string) bool { return fsType == TypeLLS && o.noauto && !o.forLLS() }
