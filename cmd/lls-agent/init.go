package main

import (
	"context"
	"fmt"

	"lls/agent/api/cli"
)

// runInit makes a pool, with what stood after "init" on its command line; call holds the same, sorted out. It gives the exit status.
func runInit(_ context.Context, _ []string, call *cli.Call) int {
	_, _ = fmt.Fprintln(call.Stderr, "lls-agent: init is not built yet")
	return 1
}
