package filesystem

import "lls/lvm"

// MinSize is the smallest volume that a file system is made on. xfs refuses less than 300 MB (mkfs.xfs(8), since xfsprogs 5.19);
// ext4 would take less, but what is left beside its journal would be of no use.
func MinSize(t Type) lvm.Size {
	if t == XFS {
		return 300 << 20
	}
	return 16 << 20
}
