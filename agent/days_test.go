//go:build !race

package agent

// monthDays is how long the simulated month is.
const monthDays = 30
