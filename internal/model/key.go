package model

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Key is the identity of a file's content. It is also a file name in the
// backing dir, so it holds nothing but [a-z0-9-].
type Key string

// SHA256Key is the key of content whose sha256 is known: shared by everyone.
func SHA256Key(hexDigest string) Key { return Key("sha256-" + hexDigest) }

// GitKey is the key of a git blob. A git hash is weak evidence across
// repositories, so repo ("org/repo") is part of the key.
func GitKey(repo, sha1 string, size int64) Key {
	return Key(fmt.Sprintf("git-%s-%d-%s", sha1, size, shortHash(repo)))
}

// AtKey is the key of content that is known only by where it lies: endpoint,
// repository, commit, path, size, strong validator. Shared within one source.
func AtKey(parts ...string) Key {
	return Key("at-" + longHash(parts))
}

// OnceKey is the key of content that nothing identifies: neither resumed nor
// shared.
func OnceKey() Key {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return Key("once-" + hex.EncodeToString(b[:]))
}

// Once reports whether the key is good for one download only.
func (k Key) Once() bool { return strings.HasPrefix(string(k), "once-") }

// Valid reports whether k may be used as a file name.
func (k Key) Valid() bool {
	if k == "" || len(k) > 160 {
		return false
	}
	for i := 0; i < len(k); i++ {
		c := k[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func shortHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:6])
}

func longHash(parts []string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
