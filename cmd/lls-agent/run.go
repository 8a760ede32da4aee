package main

import (
	"context"
	"fmt"
	"os"
)

// runDaemon is the daemon, with what stood after "run" on its command line. It gives the exit status.
func runDaemon(_ context.Context, _ []string) int {
	fmt.Fprintln(os.Stderr, "lls-agent: run is not built yet")
	return 1
}
