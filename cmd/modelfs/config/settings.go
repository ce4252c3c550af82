package config

import (
	"strconv"
	"strings"
)

// A Setting is one thing that can be set by a flag, by environment variables
// and by a key of the config file. Everything about it is in the table
// [Settings]; nothing else in modelfs lists settings.
type Setting struct {
	Name  string   // the flag's name
	Arg   string   // what its value is called in help texts
	Usage string   // one line, without a full stop
	List  bool     // the flag may be repeated; variables separate with commas
	Bool  bool     // the flag needs no value
	Also  []string // variables of other programs that mean the same, in order, after MODELFS_…
	// EmptyCounts: a MODELFS_ variable that is set to "" sets "". Elsewhere an
	// empty variable is an unset one.
	EmptyCounts bool

	set func(*Config, []string) error
	get func(*Config) string
}

// Key is the setting's key in the config file.
func (s Setting) Key() string { return strings.ReplaceAll(s.Name, "-", "_") }

// Env is the setting's own environment variable.
func (s Setting) Env() string { return "MODELFS_" + strings.ToUpper(s.Key()) }

// Default is the default value on a system, as it would be typed; "" for none.
func (s Setting) Default(sys System) string { return s.get(defaults(sys)) }

// Settings are all settings, in the order of help texts.
func Settings() []Setting { return settings }

// Names beginning with LLM_ and XLLM_ belong to the node software that modelfs
// replaces; they go on working where they have a meaning here.
var settings = []Setting{
	listSetting("local", "DIR", "tree of models on this machine",
		[]string{"XLLM_MODELS_DIR", "LLM_NODE_MODELS_DIR", "LLM_MODELS_DIR"}, func(c *Config) *[]string { return &c.Local }),
	listSetting("shared", "DIR", "tree of models on NFS or the like, read in place",
		[]string{"LLM_NODE_SHARED_MODELS_DIR", "LLM_SHARED_MODELS_DIR"}, func(c *Config) *[]string { return &c.Shared }),
	textSetting("shared-io", "passthrough|daemon", "who reads files of shared trees: the kernel itself, or modelfs, which moves to another source when the share hangs", nil,
		func(c *Config) *string { return &c.SharedIO }),
	textSetting("cache", "DIR", "backing dir, where downloads are kept", nil, func(c *Config) *string { return &c.Cache }),
	{Name: "cache-size", Arg: "SIZE", Usage: "evict above this size, such as 500GB (0: keep a tenth of the disk free)",
		set: func(c *Config, v []string) error { return c.CacheSize.parse(last(v)) },
		get: func(c *Config) string { return c.CacheSize.String() }},
	hubSetting(),
	textSetting("router", "URL", "base URL of a model router; its key comes from $MODELFS_ROUTER_TOKEN or --router-token-file",
		[]string{"LLM_ROUTER_URL"}, func(c *Config) *string { return &c.Router }),
	textSetting("router-token-file", "FILE", "file with the router's key", nil, func(c *Config) *string { return &c.RouterTokenFile }),
	listSetting("allow", "PATTERN", "origins that may be fetched from; replaces the default",
		[]string{"XLLM_ORIGIN_ALLOWLIST", "LLM_NODE_ORIGIN_ALLOWLIST", "LLM_ORIGIN_ALLOWLIST"},
		func(c *Config) *[]string { return &c.Allow }),
	backendSetting(),
	quantSetting(),
	textSetting("fill", "auto|touched", "when a read starts a whole-file download (auto: once past the head)", nil,
		func(c *Config) *string { return &c.Fill }),
	{Name: "max-fills", Arg: "N", Usage: "background downloads at a time; blocked readers are always served",
		Also: []string{"LLM_DL_CONCURRENCY"},
		set:  func(c *Config, v []string) error { return parseInt(&c.MaxFills, last(v)) },
		get:  func(c *Config) string { return strconv.Itoa(c.MaxFills) }},
	timeSetting("lookup-timeout", "how long a name may take that not everyone has answered", func(c *Config) *Duration { return &c.LookupTimeout }),
	timeSetting("list-timeout", "how long the listing of a model may take", func(c *Config) *Duration { return &c.ListTimeout }),
	timeSetting("read-timeout", "how long a download may go without a byte before its readers fail", func(c *Config) *Duration { return &c.ReadTimeout }),
	textSetting("fallback", "same|any", "may a later source stand in for one that is down (same: only with the same files and sizes)", nil,
		func(c *Config) *string { return &c.Fallback }),
	textSetting("on-stop", "unmount|leave", "what stopping does with the mount (leave: the next start mounts over it)", nil,
		func(c *Config) *string { return &c.OnStop }),
	{Name: "allow-other", Usage: "let users use the mount who did not make it; not root: needs user_allow_other in /etc/fuse.conf", Bool: true,
		set: func(c *Config, v []string) error { return parseBool(&c.AllowOther, last(v)) },
		get: func(c *Config) string { return boolText(c.AllowOther) }},
	idSetting("uid", "user who owns everything in the mount (the one who mounts)", func(c *Config) *int { return &c.UID }),
	idSetting("gid", "group of everything in the mount (that of the user who mounts)", func(c *Config) *int { return &c.GID }),
	{Name: "no-discover", Usage: "don't look for stores of other tools on this machine", Bool: true,
		set: func(c *Config, v []string) error { return parseBool(&c.NoDiscover, last(v)) },
		get: func(c *Config) string { return boolText(c.NoDiscover) }},
	textSetting("ca-file", "FILE", "one more trusted root certificate, PEM", nil, func(c *Config) *string { return &c.CAFile }),
	textSetting("listen", "ADDR", "serve metrics (/metrics), health (/healthz) and a status page (/) there; a port alone (:9090) is this machine's own", nil,
		func(c *Config) *string { return &c.Listen }),
	textSetting("log-level", "LEVEL", "debug, info, warn or error", nil, func(c *Config) *string { return &c.LogLevel }),
	textSetting("log-format", "FORMAT", "auto (text on a terminal, else JSON), text or json", nil, func(c *Config) *string { return &c.LogFormat }),
}

func textSetting(name, arg, usage string, also []string, field func(*Config) *string) Setting {
	return Setting{Name: name, Arg: arg, Usage: usage, Also: also,
		set: func(c *Config, v []string) error { *field(c) = strings.TrimSpace(last(v)); return nil },
		get: func(c *Config) string { return *field(c) }}
}

func listSetting(name, arg, usage string, also []string, field func(*Config) *[]string) Setting {
	return Setting{Name: name, Arg: arg, Usage: usage, List: true, Also: also,
		set: func(c *Config, v []string) error { *field(c) = v; return nil },
		get: func(c *Config) string { return strings.Join(*field(c), ",") }}
}

func timeSetting(name, usage string, field func(*Config) *Duration) Setting {
	return Setting{Name: name, Arg: "D", Usage: usage,
		set: func(c *Config, v []string) error { return field(c).parse(last(v)) },
		get: func(c *Config) string { return field(c).String() }}
}

// idSetting is a number of a user or group; nothing stands for Own.
func idSetting(name, usage string, field func(*Config) *int) Setting {
	return Setting{Name: name, Arg: "N", Usage: usage,
		set: func(c *Config, v []string) error { return parseInt(field(c), last(v)) },
		get: func(c *Config) string {
			if *field(c) == Own {
				return ""
			}
			return strconv.Itoa(*field(c))
		}}
}

func hubSetting() Setting {
	s := textSetting("hf-endpoint", "URL", `base URL of the Hugging Face Hub or a mirror, or "" for none`,
		[]string{"HF_ENDPOINT", "HF_BASE_URL"}, func(c *Config) *string { return &c.HFEndpoint })
	s.EmptyCounts = true
	return s
}

// backendSetting joins what is given: a flag that is repeated says the same as
// a list.
func backendSetting() Setting {
	s := listSetting("backend", "LIST", "what listings show the models of: auto, all, or a list of cuda, rocm, metal, vulkan, directml, intel, neuron, tpu, gaudi, cpu",
		nil, nil)
	s.set = func(c *Config, v []string) error {
		c.Backend = strings.Join(splitList(strings.Join(v, ",")), ",")
		return nil
	}
	s.get = func(c *Config) string { return c.Backend }
	return s
}

// quantSetting splits at commas everywhere: on a command line the order is
// one thought, not several flags.
func quantSetting() Setting {
	s := listSetting("quant", "LIST", "preferred quantisations, the best first", nil, func(c *Config) *[]string { return &c.Quant })
	s.set = func(c *Config, v []string) error { c.Quant = splitList(strings.Join(v, ",")); return nil }
	return s
}

// splitList splits at commas, trims spaces and drops what is empty.
func splitList(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

func last(v []string) string { return v[len(v)-1] }
