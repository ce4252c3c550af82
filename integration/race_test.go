//go:build race

package integration

// buildFlags build the daemon as the tests are built.
var buildFlags = []string{"-race"}
