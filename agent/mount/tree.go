package mount

import (
	"net"
	"os"
)

// Tree is the file system of the host that one container sees at /lls.
type Tree struct{}

// OpenTree makes the tree at base/key/lls or adopts the one that is there.
func OpenTree(base, key string) (*Tree, error) { return nil, errTodo }

// Put writes a file atomically.
func (t *Tree) Put(path string, content []byte, mode os.FileMode) error { return errTodo }

// Copy is Put of what src holds.
func (t *Tree) Copy(path string, src *os.File, mode os.FileMode) error { return errTodo }

// Listen makes a socket, in place of whatever has its name.
func (t *Tree) Listen(name string, mode os.FileMode) (*net.UnixListener, error) { return nil, errTodo }

// Sweep detaches what an agent that was killed left between host and container.
func (t *Tree) Sweep() error { return errTodo }

// Close releases the tree, which stays.
func (t *Tree) Close() error { return errTodo }

// Remove takes the tree away for good.
func (t *Tree) Remove() error { return errTodo }
