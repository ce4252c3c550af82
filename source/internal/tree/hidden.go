package tree

import (
	"strings"
)

// hiddenSuffixes end the names of files that other tools leave while they
// work: locks and unfinished downloads.
var hiddenSuffixes = []string{".lock", ".partial", ".tmp", ".incomplete", ".part", ".aria2", ".downloadinprogress", ".parallel_tmp"}

// Hidden reports whether a name is no part of any model.
func Hidden(name string) bool { return strings.HasPrefix(name, ".") || Unfinished(name) }

// Unfinished reports whether a name is that of a lock or an unfinished download.
func Unfinished(name string) bool {
	lower := strings.ToLower(name)
	for _, s := range hiddenSuffixes {
		if strings.HasSuffix(lower, s) {
			return true
		}
	}
	return false
}
