//go:build !race

package integration

// buildFlags build the daemon as the tests are built.
var buildFlags []string

// raceAllowance is added to promised times: see onTime.
const raceAllowance = 0

// patience is for servers with the race detector; these are in time.
var patience []string
