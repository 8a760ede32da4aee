// Command lls-mount does what may never end: the part of a mount that walks a
// container's paths, in the container's mount namespace, and what a frozen file
// system does not answer. Only the agent starts it, gives it up at its deadline,
// and survives it when it hangs. See lls/agent/mount/inside and
// lls/agent/filesystem/apart.
package main

import (
	"os"
	"runtime"

	"lls/agent/filesystem/apart"
	"lls/agent/mount/inside"
)

// The main goroutine stays on the main thread.
func init() { runtime.LockOSThread() }

func main() {
	var text string
	if answer, ours := apart.Run(os.Args[1:]); ours {
		text = answer.String()
	} else {
		text = inside.Run(os.Args[1:]).String()
	}
	if _, err := os.Stdout.WriteString(text); err != nil {
		os.Exit(1)
	}
}
