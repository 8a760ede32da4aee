//go:build race

package agent

// The race detector makes the simulated month several times slower, so it is a short one; the suite runs the whole without.
const (
	monthDays       = 6
	quietDays       = 2
	monthContainers = 8
	monthVolumes    = 100
	monthPace       = 8 // ticks between two moments at which users do something
	monthLeast      = 3 // of everything that has to be seen
)
