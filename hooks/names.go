package hooks

// Names are the volumes that the file's lines name. byLabel says that there is a line that names one by what its file system is called,
// so that nobody can tell from here which.
func (f File) Names() (names []string, byLabel bool) {
	for _, l := range f.Lines {
		if name, ok := l.Volume(); ok {
			names = append(names, name)
		}
		if _, _, ok := l.tag(); ok && l.Target != "/" {
			byLabel = true
		}
	}
	return names, byLabel
}
