package mount

// Point is one line of mountinfo(5).
type Point struct {
	ID, Parent   int
	Major, Minor uint32
	Root, Path   string // as the process sees it
	Options      []string
	PeerGroup    int // shared:N, or 0
	Master       int // master:N, or 0
	Type, Source string
	SuperOptions []string
}

// Points are the mounts that a process sees.
func Points(pid int) ([]Point, error) { return nil, errTodo }

// PointsOf are those of one device.
func PointsOf(points []Point, major, minor uint32) []Point { return nil }
