package huggingface

import "sync"

// maxRemembered bounds each of memory's maps; a full one starts anew.
const maxRemembered = 10_000

// memory is what must be carried from one question to the next: it decides no
// answer.
type memory struct {
	mu     sync.Mutex      // guards the maps
	known  map[string]bool // names that were seen present: not bound by the budget
	said   map[string]said // of "id@commit", from Find to List
	warned map[string]bool // "id@commit" whose refused files were logged
}

func (m *memory) know(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.known, name, true)
}

func (m *memory) knows(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[name]
}

func (m *memory) keep(commit string, s said) {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.said, commit, s)
}

func (m *memory) saidOf(commit string) said {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said[commit]
}

// warn reports whether it is asked for the first time.
func (m *memory) warn(commit string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := !m.warned[commit]
	put(&m.warned, commit, true)
	return first
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil || len(*m) >= maxRemembered {
		*m = make(map[string]V)
	}
	(*m)[key] = v
}
