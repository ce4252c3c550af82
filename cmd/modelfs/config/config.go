// Package config answers what the operator asked for: it merges flags, the
// environment, the config file and the defaults into one [Config].
//
// Invariants:
//
//  1. A flag beats the environment, the environment beats the file, the file
//     beats the default. A list is replaced as a whole, never appended to.
//  2. A Config that Load returned is valid: every path is absolute, every
//     number in range, every word one of those that it may be.
//  3. No secret is a field that can be printed. Tokens are a [Token], which
//     reads its value when it is asked and shows itself as where it comes from.
//  4. What can't be understood is an error that names the flag, the variable,
//     or the file with line and column; nothing is ignored.
//
// It opens the config file and token files and nothing else: whether a tree
// exists is for its source to find out.
package config

import (
	"fmt"
	"os"
	"time"

	"modelfs/internal/model"
)

// A Config is what one run of modelfs was asked to do. The tags are the keys
// of the config file.
type Config struct {
	Local  []string `yaml:"local"`  // trees of models on this machine's disk, absolute, in order
	Shared []string `yaml:"shared"` // trees of models on NFS or the like, absolute, in order

	SharedIO string `yaml:"shared_io"` // SharedPassthrough or SharedDaemon

	Cache     string `yaml:"cache"`      // the backing dir, absolute
	CacheSize Size   `yaml:"cache_size"` // bytes; evict above it; 0: keep a tenth of the disk free

	HFEndpoint      string   `yaml:"hf_endpoint"`       // the Hub's base URL without a trailing slash; "" for none
	Router          string   `yaml:"router"`            // the router's base URL without a trailing slash; "" for none
	RouterTokenFile string   `yaml:"router_token_file"` // file with the router's key, absolute; "" for none
	Allow           []string `yaml:"allow"`             // origin allow-list; nil: the default for these endpoints
	CAFile          string   `yaml:"ca_file"`           // PEM file with one more root, absolute; "" for none

	Backend      string `yaml:"backend"`       // what listings are for: auto, all, or a list of backends
	BackendRules string `yaml:"backend_rules"` // file that replaces the table of what runs where, absolute; "" for the built-in one
	NoDiscover   bool   `yaml:"no_discover"`   // don't look for stores of other tools

	Quant    []string `yaml:"quant"`     // preferred quantisations, the best first
	Fill     string   `yaml:"fill"`      // FillAuto or FillTouched
	MaxFills int      `yaml:"max_fills"` // background fills at a time, 1 to 64

	LookupTimeout Duration `yaml:"lookup_timeout"` // for a name; above 950ms a name that nobody has may take more than a second
	ListTimeout   Duration `yaml:"list_timeout"`   // for the listing of a model that a source has
	ReadTimeout   Duration `yaml:"read_timeout"`   // of a fill without a byte, after which its readers get ETIMEDOUT

	Fallback string `yaml:"fallback"` // FallbackSame or FallbackAny
	OnStop   string `yaml:"on_stop"`  // StopUnmount or StopLeave

	AllowOther bool `yaml:"allow_other"` // other users may use the mount
	UID        int  `yaml:"uid"`         // owner that everything in the mount shows; Own for the user who mounts
	GID        int  `yaml:"gid"`         // its group; Own for that of the user who mounts

	Listen    string `yaml:"listen"`     // host:port of metrics, health and the status page, never without a host; "" for none
	LogLevel  string `yaml:"log_level"`  // debug, info, warn or error
	LogFormat string `yaml:"log_format"` // auto, text or json

	Models      map[string]Alias    `yaml:"models"`       // names of the operator's own; a tree's own name wins
	Sources     map[string][]string `yaml:"sources"`      // name pattern -> the only sources it may come from (kinds or IDs)
	LinkTargets []string            `yaml:"link_targets"` // directories outside of a tree that its links may lead into, absolute
	ColdDeny    []string            `yaml:"cold_deny"`    // programs whose cold opens are refused (EACCES)

	HubToken    *Token `yaml:"-"` // for HFEndpoint's host only; never nil
	RouterToken *Token `yaml:"-"` // for Router's host only; never nil
	File        string `yaml:"-"` // the config file that was read; "" for none

	said map[string]string `yaml:"-"` // setting or key -> where it was said last, as messages name it
}

// An Alias is a name that the config file gives to a model of the Hub.
type Alias struct {
	HF       string   `yaml:"hf"`       // org/repo
	Revision string   `yaml:"revision"` // commit, branch or tag; "" for the default branch
	Files    []string `yaml:"files"`    // patterns of the files to show; nil: all
}

// The words that some settings take.
const (
	FillAuto     = "auto"    // a whole-file fill starts once a read has gone past the head
	FillTouched  = "touched" // only what is read is fetched
	FallbackSame = "same"    // a later source stands in only with the same files and sizes
	FallbackAny  = "any"     // any source that has the name stands in
	StopUnmount  = "unmount" // stopping takes the mount away
	StopLeave    = "leave"   // stopping leaves a dead mount point, which the next start mounts over

	SharedPassthrough = "passthrough" // the kernel reads files of shares by itself
	SharedDaemon      = "daemon"      // modelfs reads them, and moves to another source when the share hangs
)

// Own stands for the id of whoever mounts.
const Own = -1

// DefaultFile is read where it exists and no other file is named.
const DefaultFile = "/etc/modelfs/config.yaml"

// coldDeny are programs that read whole trees and never want a download:
// indexers, virus scanners, backups.
var coldDeny = []string{"updatedb", "updatedb.plocat", "updatedb.mlocat", "mlocate", "plocate", "baloo_file",
	"baloo_file_extractor", "tracker-miner-fs-3", "localsearch-3", "clamd", "clamscan", "clamdscan", "restic", "borg",
	"duplicity", "rdiff-backup", "kopia"}

// A System is what the defaults depend on.
type System struct {
	Env  func(string) (string, bool) // os.LookupEnv
	Root bool                        // the process is root
	File string                      // the file to read when no other is named and it exists; "" for none
}

// Host is the system that the process runs on.
func Host() System {
	return System{Env: os.LookupEnv, Root: os.Geteuid() == 0, File: DefaultFile}
}

// Load merges flags, environment, file and defaults. Its errors are the
// operator's to mend and say where. flags may be nil.
func Load(sys System, flags *Flags) (*Config, error) {
	c := defaults(sys)
	if err := c.loadFile(sys, flags); err != nil {
		return nil, err
	}
	if err := c.loadEnv(sys); err != nil {
		return nil, err
	}
	if err := flags.apply(c); err != nil {
		return nil, err
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	c.HubToken = hubToken(sys)
	c.RouterToken = routerToken(sys, c.RouterTokenFile)
	return c, nil
}

func defaults(sys System) *Config {
	return &Config{
		SharedIO:      SharedPassthrough,
		Cache:         defaultCache(sys),
		HFEndpoint:    "https://huggingface.co",
		Backend:       "auto",
		Quant:         []string{"Q4_K_M", "Q8_0"},
		Fill:          FillAuto,
		MaxFills:      1,
		LookupTimeout: Duration{900 * time.Millisecond},
		ListTimeout:   Duration{10 * time.Second},
		ReadTimeout:   Duration{5 * time.Minute},
		Fallback:      FallbackSame,
		OnStop:        StopUnmount,
		AllowOther:    sys.Root, // engines in containers are not root
		UID:           Own,
		GID:           Own,
		LogLevel:      "info",
		LogFormat:     "auto",
		ColdDeny:      coldDeny,
		said:          map[string]string{},
	}
}

func defaultCache(sys System) string {
	if sys.Root {
		return "/var/lib/modelfs"
	}
	if dir := userCache(sys); dir != "" {
		return dir + "/modelfs"
	}
	return ""
}

// userCache is $XDG_CACHE_HOME or ~/.cache; "" where there is no home.
func userCache(sys System) string {
	if dir := sys.get("XDG_CACHE_HOME"); dir != "" {
		return dir
	}
	if home := sys.get("HOME"); home != "" {
		return home + "/.cache"
	}
	return ""
}

// get is the value of an environment variable. An empty variable is an unset
// one: compose files and units leave such behind.
func (sys System) get(name string) string {
	v, _ := sys.Env(name)
	return v
}

// Where is how messages name what decided a setting, by the flag's name: the
// flag, the variable, or the place in the file.
func (c *Config) Where(name string) string {
	if at := c.said[name]; at != "" {
		return at
	}
	return "--" + name
}

// errorf is of a setting, or of a key that only the file has.
func (c *Config) errorf(name, format string, args ...any) error {
	return errorf(c.Where(name), format, args...)
}

// errorf makes an error that the operator has to mend.
func errorf(where, format string, args ...any) error {
	return model.Errorf(model.Invalid, "%s: %w", where, fmt.Errorf(format, args...))
}
