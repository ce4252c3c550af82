package format

import "strings"

// File names state quantisations as ggml writes them:
//
//	(UD-)?(BF16|F16|F32|MXFP4(_MOE)?|NVFP4|IQ[0-9]_[A-Z]+(_[A-Z]+)*|T?Q[0-9]_[0-9K](_[A-Z]+)*)
//
// It is written out because listings look at every file of every model, and
// a regular expression took as long as all the other work.

// lastLabel is the last label in a name in upper case, or "".
func lastLabel(name string) string {
	last := ""
	for i := 0; i < len(name); {
		n := labelAt(name[i:])
		if n == 0 {
			i++
			continue
		}
		last = name[i : i+n]
		i += n
	}
	return last
}

// labelAt is the length of the label that s begins with, or 0.
func labelAt(s string) int {
	if rest, ok := strings.CutPrefix(s, "UD-"); ok {
		if n := typeAt(rest); n > 0 {
			return len("UD-") + n
		}
	}
	return typeAt(s)
}

func typeAt(s string) int {
	if s == "" || strings.IndexByte("BFMNITQ", s[0]) < 0 {
		return 0
	}
	for _, word := range []string{"BF16", "F16", "F32", "MXFP4_MOE", "MXFP4", "NVFP4"} {
		if strings.HasPrefix(s, word) {
			return len(word)
		}
	}
	switch {
	case strings.HasPrefix(s, "IQ") && len(s) > 2 && isDigit(s[2]):
		if n := words(s[3:]); n > 0 {
			return 3 + n
		}
	case strings.HasPrefix(s, "TQ"):
		if n := typeAt(s[1:]); n > 0 {
			return 1 + n
		}
	case len(s) > 3 && s[0] == 'Q' && isDigit(s[1]) && s[2] == '_' && (isDigit(s[3]) || s[3] == 'K'):
		return 4 + words(s[4:])
	}
	return 0
}

// words is the length of (_[A-Z]+)* at the beginning of s.
func words(s string) int {
	n := 0
	for n+1 < len(s) && s[n] == '_' && isUpper(s[n+1]) {
		for n++; n < len(s) && isUpper(s[n]); n++ {
		}
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
