//go:build race

package agent

// monthDays is how long the simulated month is. The race detector makes it several times slower; the suite runs the whole month without.
const monthDays = 6
