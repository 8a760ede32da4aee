package hooks

// Names are the volumes that the file's lines name. tagged are the numbers of the lines that may name one by what its file system is
// called, so that nobody can tell from here which: those of a type and at a place where LLS mounts.
func (f File) Names() (names []string, tagged []int) {
	for _, l := range f.Lines {
		if name, ok := l.Volume(); ok {
			names = append(names, name)
		}
		if _, ok := l.tag(); !ok || l.Problem != "" || !l.mountable() {
			continue
		}
		if _, reason, _ := CheckTarget(l.Target); reason == "" {
			tagged = append(tagged, l.Number)
		}
	}
	return names, tagged
}
