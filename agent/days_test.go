//go:build !race

package agent

// How long the simulated month is, how long nobody does anything after it, and who lives in it.
const (
	monthDays       = 30
	quietDays       = 7
	monthContainers = 40
	monthVolumes    = 400
	monthPace       = 1  // ticks between two moments at which users do something
	monthLeast      = 30 // of everything that has to be seen
)
