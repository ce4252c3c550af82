// Package backend answers: which GPU backends does this machine have, and
// what can they run?
//
// Invariants:
//
//  1. A backend is here when a device node of it opens. What sysfs and /proc
//     show is the host's hardware, which a container may not use: it is only
//     reported as hardware that can't be used. A machine without a usable GPU
//     or accelerator is "cpu".
//  2. What runs where is data ([Rules]), each rule with its evidence. What no
//     rule decides is unknown, and unknown is shown.
//  3. [Rules.Filter] hides whole artifacts and never text; what is left can be
//     loaded, or nothing is hidden.
//
// It decides what is listed, never what may be opened: a hidden file still
// opens by name. Environment variables of engines (CUDA_VISIBLE_DEVICES) are
// not looked at: the machine's other processes have others.
package backend

import (
	"fmt"
	"slices"
	"strings"

	"modelfs/internal/model"
)

// A Backend is a way to run models.
type Backend string

// The backends.
const (
	CUDA     Backend = "cuda"
	ROCm     Backend = "rocm"
	Metal    Backend = "metal"
	Vulkan   Backend = "vulkan"
	DirectML Backend = "directml"
	Intel    Backend = "intel" // OpenVINO and SYCL on Intel's GPUs and NPUs
	Neuron   Backend = "neuron"
	TPU      Backend = "tpu"
	Gaudi    Backend = "gaudi"
	CPU      Backend = "cpu"
)

// allBackends are all backends, in the order of listings.
var allBackends = []Backend{CUDA, ROCm, Metal, Vulkan, DirectML, Intel, Neuron, TPU, Gaudi, CPU}

// A Choice is what --backend says.
type Choice struct {
	auto, all bool
	named     []Backend
}

// ParseChoice parses a comma-separated list of auto, all and backends; ""
// is auto. The error is of kind Invalid and names what is allowed.
func ParseChoice(list string) (Choice, error) {
	var c Choice
	for _, word := range strings.Split(list, ",") {
		switch word = strings.ToLower(strings.TrimSpace(word)); {
		case word == "auto" || word == "" && strings.TrimSpace(list) == "":
			c.auto = true
		case word == "all":
			c.all = true
		case word == "openvino":
			c.named = append(c.named, Intel)
		case slices.Contains(allBackends, Backend(word)):
			c.named = append(c.named, Backend(word))
		default:
			return Choice{}, model.Errorf(model.Invalid, "%q is no backend: give auto, all, or a list of %s", word, join(allBackends, ","))
		}
	}
	return c, nil
}

// A Sign is why a backend counts as here, or why hardware does not.
type Sign struct {
	Backend Backend `json:"backend"`
	Sign    string  `json:"sign"`
}

// String is the line for a log or for doctor.
func (s Sign) String() string { return fmt.Sprintf("%s: %s", s.Backend, s.Sign) }

// A Selection is the backends that listings are for.
type Selection struct {
	All      bool      `json:"all,omitempty"` // nothing is filtered; Backends is nil
	Backends []Backend `json:"backends,omitempty"`
	Signs    []Sign    `json:"signs,omitempty"`    // what decided each, in the same order
	Unusable []Sign    `json:"unusable,omitempty"` // hardware that is here and that no device node opens for
}

// Select applies the choice to a machine. It detects only where the choice
// leaves it to that (see [Detect], which may block).
func (c Choice) Select(sys System) Selection {
	if c.all {
		return Selection{All: true, Signs: []Sign{{"all", "--backend says so"}}}
	}
	var s Selection
	if c.auto {
		s = Detect(sys)
	}
	for _, b := range c.named {
		if s.Has(b) {
			continue
		}
		s.Signs = append(s.Signs, Sign{b, "--backend says so"})
		s.Backends = append(s.Backends, b)
	}
	return s
}

// Has reports whether b is selected by name or by detection.
func (s Selection) Has(b Backend) bool { return slices.Contains(s.Backends, b) }

// String is "cuda,vulkan", or "all".
func (s Selection) String() string {
	if s.All {
		return "all"
	}
	return join(s.Backends, ",")
}

func join[T ~string](list []T, sep string) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	return strings.Join(words, sep)
}
