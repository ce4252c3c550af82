package model

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on what may come from outside. 255 is NAME_MAX of every filesystem
// that a link could be made on; 96 is the Hub's limit on a repository's name.
const (
	MaxSegment  = 255  // bytes of one path segment
	MaxRepoPart = 96   // bytes of an organisation's or a repository's name
	MaxPath     = 1024 // bytes of a path inside a model
	MaxDepth    = 32   // segments of a path inside a model
	MaxFiles    = 100_000
)

// A Name is what a person or an engine calls a model: [org/]repo[:quant][@revision].
type Name struct {
	Org      string // "" for a name without one
	Repo     string
	Quant    string // "" for none
	Revision string // "" for the default branch; may hold '/' only when parsed from a command line
}

// Path is "org/repo" or "repo": the name without quant and revision.
func (n Name) Path() string {
	if n.Org == "" {
		return n.Repo
	}
	return n.Org + "/" + n.Repo
}

// String is the name as it is typed.
func (n Name) String() string {
	s := n.Path()
	if n.Quant != "" {
		s += ":" + n.Quant
	}
	if n.Revision != "" {
		s += "@" + n.Revision
	}
	return s
}

// ParseName parses [org/]repo[:quant][@revision]. The error is of kind
// NotFound: a name that no model can have is a name that no source has.
func ParseName(s string) (Name, error) {
	var n Name
	rest := s
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		rest, n.Revision = rest[:i], rest[i+1:]
		if !validRevision(n.Revision) {
			return Name{}, badName(s, "the revision is malformed")
		}
	}
	if i := strings.IndexByte(rest, ':'); i >= 0 {
		rest, n.Quant = rest[:i], rest[i+1:]
		if !validPart(n.Quant) {
			return Name{}, badName(s, "the quantisation is malformed")
		}
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		n.Org, rest = rest[:i], rest[i+1:]
		if !ValidEntry(n.Org) {
			return Name{}, badName(s, "the organisation is malformed")
		}
	}
	n.Repo = rest
	if !ValidEntry(n.Repo) {
		return Name{}, badName(s, "no model can have this name")
	}
	return n, nil
}

func badName(s, why string) error {
	return Errorf(NotFound, "name %q: %s", s, why)
}

// reserved are names that tools probe for to find out whether a directory is
// a bare git repository; no model has them.
var reserved = map[string]bool{"HEAD": true, "objects": true, "refs": true}

// ValidEntry reports whether s can be the name of a directory entry that is a
// model, a namespace or a loose file. Trees may use any such name; the network's
// sources are stricter (ValidRepoPart). What is not valid is ENOENT with no I/O.
func ValidEntry(s string) bool {
	if s == "" || len(s) > MaxSegment || s[0] == '.' || reserved[s] || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '/' {
			return false
		}
	}
	return true
}

// ValidRepoPart reports whether s can be an organisation or a repository on
// the Hub: ASCII letters, digits, '-', '_', '.', at most MaxRepoPart bytes,
// beginning and ending with a letter, a digit or '_', without "--" or "..",
// not ending in ".git", and not reserved.
func ValidRepoPart(s string) bool {
	return validPart(s) && !reserved[s] && !strings.Contains(s, "--") && !strings.HasSuffix(s, ".git")
}

func validPart(s string) bool {
	if s == "" || len(s) > MaxRepoPart || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isWord(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return isWord(s[0]) && isWord(s[len(s)-1])
}

func validRevision(s string) bool {
	if s == "" || len(s) > MaxSegment || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isWord(s[i]) && !strings.ContainsRune("-./+", rune(s[i])) {
			return false
		}
	}
	return isWord(s[0]) && s[len(s)-1] != '/' && !strings.Contains(s, "//")
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// modelExtensions are the endings of weight files. A name with one of them
// names a file, never a repository, so it is not asked of the network.
var modelExtensions = []string{".gguf", ".safetensors", ".bin", ".onnx", ".onnx_data", ".pt", ".pth", ".ckpt", ".json",
	".msgpack", ".h5", ".tflite", ".engine", ".plan", ".mlmodel", ".index"}

// LooksLikeFile reports whether a name ends as a model's file does.
func LooksLikeFile(name string) bool {
	lower := strings.ToLower(name)
	for _, ext := range modelExtensions {
		if strings.HasSuffix(lower, ext) {
			return true
		}
	}
	return false
}

// ValidPath reports whether p, which came from outside, can be the path of a
// file inside a model: relative, clean, no empty, "." or ".."
// segment, no control characters, no backslash, valid UTF-8.
func ValidPath(p string) bool {
	if p == "" || len(p) > MaxPath || !utf8.ValidString(p) || strings.Count(p, "/") >= MaxDepth {
		return false
	}
	for _, seg := range strings.Split(p, "/") {
		if seg == "" || seg == "." || seg == ".." || len(seg) > MaxSegment {
			return false
		}
	}
	for _, r := range p {
		if unicode.IsControl(r) || r == '\\' {
			return false
		}
	}
	return true
}
