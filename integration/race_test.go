//go:build race

package integration

import "time"

// buildFlags build the daemon as the tests are built.
var buildFlags = []string{"-race"}

// raceAllowance is added to promised times: see onTime.
const raceAllowance = 3 * time.Second

// patience is how long a daemon may wait for two thousand answers of servers
// that are slow for the same reason.
var patience = []string{"--lookup-timeout", "3900ms"}
