//go:build !race

package integration

// buildFlags build the daemon as the tests are built.
var buildFlags []string

// raceAllowance is added to promised times: see onTime.
const raceAllowance = 0

// patience is for daemons with the race detector; this one keeps its promise.
var patience []string
