// Command lls-mount does the part of a mount that walks a container's paths, in
// the container's mount namespace. Only the agent starts it, kills it at its
// deadline, and survives it when it hangs. See lls/agent/mount/inside.
package main

import (
	"os"
	"runtime"

	"lls/agent/mount/inside"
)

// The main goroutine stays on the main thread.
func init() { runtime.LockOSThread() }

func main() {
	answer := inside.Run(os.Args[1:])
	if _, err := os.Stdout.WriteString(answer.String()); err != nil {
		os.Exit(1)
	}
}
