package describe

import (
	"log/slog"
	"os"
	"strings"

	"modelfs/internal/backend"
	"modelfs/internal/model"
)

// A Machine is what this machine can run.
type Machine struct {
	Backends backend.Selection
	rules    *backend.Rules
}

// LookAt finds the backends that choice (the value of --backend) leaves to
// detection, and reads the table of what runs where from the file rules; "" is
// the built-in one. It opens device nodes, which may take seconds where a GPU
// has to be woken. The error is of kind Invalid.
func LookAt(choice, rules string) (Machine, error) {
	c, err := backend.ParseChoice(choice)
	if err != nil {
		return Machine{}, err
	}
	table, err := readRules(rules)
	if err != nil {
		return Machine{}, err
	}
	return Machine{c.Select(backend.Host()), table}, nil
}

func readRules(file string) (*backend.Rules, error) {
	if file == "" {
		return backend.DefaultRules()
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "backend_rules: %w", err)
	}
	rules, err := backend.ParseRules(raw)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "backend_rules: %s: %w; correct it, or leave the setting out for the built-in table", file, err)
	}
	return rules, nil
}

// Log says which sign decided, and what hardware is here that can't be used.
func (m Machine) Log(log *slog.Logger) {
	for _, s := range m.Backends.Signs {
		log.Info("listings are for this backend", "backend", s.Backend, "sign", s.Sign)
	}
	for _, s := range m.Backends.Unusable {
		log.Warn("hardware is here that can't be used", "backend", s.Backend, "sign", s.Sign)
	}
}

// Names are the backends, for status.
func (m Machine) Names() []string { return strings.Split(m.Backends.String(), ",") }
