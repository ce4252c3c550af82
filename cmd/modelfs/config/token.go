package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// A Token is a secret and where it comes from. It prints as the latter. Its
// file is read each time that the token is asked for, so that a new login is
// good at once.
type Token struct {
	from string                 // "$HF_TOKEN", the file's path, or "none"
	read func() (string, error) // a function, so that no way of printing shows the value
}

// maxToken bounds a token's file; real tokens are under 100 bytes.
const maxToken = 16 << 10

// Value is the token; "" where there is none. It reads a small file and may
// block as long as that file's filesystem does.
func (t *Token) Value() (string, error) {
	token, err := t.read()
	if err == nil {
		err = check(token)
	}
	if err != nil {
		return "", fmt.Errorf("reading a token from %s: %w", t.from, err)
	}
	return token, nil
}

// check refuses what can't stand in a request header.
func check(token string) error {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return errors.New("it holds something else")
		}
	}
	return nil
}

func noToken() *Token { return valueToken("none", "") }

func valueToken(from, value string) *Token {
	return &Token{from, func() (string, error) { return value, nil }}
}

// fileToken reads a file, which need not exist unless it is wanted.
func fileToken(path string, wanted bool) *Token {
	return &Token{path, func() (string, error) {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) && !wanted {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err == nil && len(data) > maxToken {
			err = errors.New("it is too large to be one")
		}
		return strings.TrimSpace(string(data)), err
	}}
}

// String says where the token comes from, never what it is.
func (t *Token) String() string { return t.from }

// GoString keeps %#v from showing the fields.
func (t *Token) GoString() string { return "config.Token(" + t.from + ")" }

// LogValue is String.
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.from) }

// The variables that hold secrets, each in the order in which they are asked.
var (
	hubVariables      = []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
	routerVariable    = "MODELFS_ROUTER_TOKEN"
	oldRouterVariable = "LLM_NODE_API_KEY" // the old system's; a file comes before it
)

// Secrets are the environment variables that hold secrets. Who has loaded its
// configuration can do without them, and so can what it starts.
func Secrets() []string { return append([]string{routerVariable, oldRouterVariable}, hubVariables...) }

// hubToken looks where the Hub's own tools look, in their order.
func hubToken(sys System) *Token {
	if t := envToken(sys, hubVariables...); t != nil {
		return t
	}
	if path := sys.get("HF_TOKEN_PATH"); path != "" {
		return fileToken(path, false)
	}
	home := sys.get("HF_HOME")
	if home == "" {
		home = userCache(sys)
		if home == "" {
			return noToken()
		}
		home += "/huggingface"
	}
	return fileToken(home+"/token", false)
}

func routerToken(sys System, file string) *Token {
	if t := envToken(sys, routerVariable); t != nil {
		return t
	}
	if file != "" {
		return fileToken(file, true)
	}
	if t := envToken(sys, oldRouterVariable); t != nil {
		return t
	}
	return noToken()
}

// envToken takes the first variable that is not empty.
func envToken(sys System, names ...string) *Token {
	for _, name := range names {
		if v := strings.TrimSpace(sys.get(name)); v != "" {
			return valueToken("$"+name, v)
		}
	}
	return nil
}
