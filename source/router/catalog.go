package router

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/jsonlist"
)

const (
	// freshFor is how old a list may be before a newer one is asked for behind
	// what it says.
	freshFor = time.Minute

	// absentFor is how old a list may be to call a name absent: a model that was
	// just added to the router is asked for soon.
	absentFor = 10 * time.Second

	// usableFor is how old a list may be to call a name present while a newer
	// one is asked for: the manifest will say if it is gone.
	usableFor = 10 * time.Minute

	// failureFor is how long a failed attempt answers for the next ones.
	failureFor = 2 * time.Second

	// maxCatalog bounds the list: 30,000 models of 1 KiB.
	maxCatalog = 32 << 20

	// maxListed bounds its elements, which can be shorter.
	maxListed = 100_000
)

// A catalog is a router's list of models. It is immutable.
type catalog struct {
	at     time.Time              // when it was asked for
	byName map[string]model.Found // by lower-case name: models and the namespaces they imply
}

// find says what the name is on the list. Routers know no case.
func (c *catalog) find(name string) (model.Found, bool) {
	f, ok := c.byName[strings.ToLower(name)]
	return f, ok
}

// models is the list without the namespaces, sorted by name.
func (c *catalog) models() []model.Found {
	found := make([]model.Found, 0, len(c.byName))
	for _, name := range slices.Sorted(maps.Keys(c.byName)) {
		if f := c.byName[name]; f.Kind == model.ModelDir {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b model.Found) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// recent is a list that may be some minutes old; then a newer one is asked
// for behind it.
func (s *Source) recent(ctx context.Context) (*catalog, error) {
	c, failure := s.state()
	if c == nil || time.Since(c.at) >= usableFor {
		return s.complete(ctx)
	}
	if time.Since(c.at) >= freshFor && failure == nil {
		s.refresh.Start("", s.read)
	}
	return c, nil
}

// complete is a list that is not older than absentFor.
func (s *Source) complete(ctx context.Context) (*catalog, error) {
	c, failure := s.state()
	switch {
	case c != nil && time.Since(c.at) < absentFor:
		return c, nil
	case failure != nil:
		return nil, failure
	}
	return s.refresh.Do(ctx, "", s.read)
}

// state is the last list, and the last attempt's error while it counts.
func (s *Source) state() (*catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil && time.Since(s.failedAt) >= failureFor {
		s.failure = nil
	}
	return s.latest, s.failure
}

// read asks for the list, once for all who want it. One that was read since
// its caller looked will do.
func (s *Source) read(ctx context.Context) (*catalog, error) {
	at := time.Now()
	if c, failure := s.state(); failure != nil || c != nil && at.Sub(c.at) < absentFor {
		return c, failure
	}
	c, err := s.readCatalog(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failure, s.failedAt = err, time.Now()
		return nil, err
	}
	c.at = at
	s.latest, s.failure = c, nil
	return c, nil
}

func (s *Source) readCatalog(ctx context.Context) (*catalog, error) {
	ans, _, err := s.get(ctx, "/models", maxCatalog)
	if model.IsKind(err, model.NotFound) {
		return nil, model.Errorf(model.Unavailable, "there is no list: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return parseCatalog(ans.Body)
}

// listed is what is used of an element. Both generations have one of the
// first two.
type listed struct {
	Name         any `json:"name"`
	ID           any `json:"id"`
	LastModified any `json:"last_modified"`
}

// parseCatalog reads a list in any of its shapes: [...], {"data":[...]},
// {"value":[...]}. Elements that name no usable model are left out; a list in
// which nothing has a name is none, for it would make everything absent.
func parseCatalog(body []byte) (*catalog, error) {
	elements, err := elementsOf(body)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "the answer is not a list of models: %w", err)
	}
	if elements == nil {
		return nil, model.Errorf(model.Unavailable, "the answer is not a list of models")
	}
	c := &catalog{byName: make(map[string]model.Found, len(elements))}
	named := 0
	for _, e := range elements {
		if e.name() != "" {
			named++
		}
		c.add(e)
	}
	if named == 0 && len(elements) > 0 {
		return nil, model.Errorf(model.Unavailable, "none of the %d elements of the list has a name", len(elements))
	}
	return c, nil
}

// elementsOf are the elements of a list in whatever shape; nil where there is
// no list.
func elementsOf(body []byte) ([]listed, error) {
	if list := bytes.TrimLeft(body, " \t\r\n"); len(list) > 0 && list[0] == '[' {
		return jsonlist.Decode[listed](body, maxListed)
	}
	var wrapped struct {
		Data  json.RawMessage `json:"data"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(body, &wrapped); err != nil {
		return nil, err
	}
	for _, raw := range []json.RawMessage{wrapped.Data, wrapped.Value} {
		if raw == nil {
			continue
		}
		if list, err := jsonlist.Decode[listed](raw, maxListed); list != nil || err != nil {
			return list, err
		}
	}
	return nil, nil
}

func (e listed) name() string {
	name, _ := e.Name.(string)
	if name == "" {
		name, _ = e.ID.(string)
	}
	return name
}

// add takes in an element. A model hides a namespace of the same name, and
// the first of two models that differ in case only counts.
func (c *catalog) add(e listed) {
	name := e.name()
	if !askable(name) {
		return
	}
	lower := strings.ToLower(name)
	if have, ok := c.byName[lower]; !ok || have.Kind == model.Namespace {
		c.byName[lower] = model.Found{Kind: model.ModelDir, Name: name, ModTime: timeOf(e.LastModified)}
	}
	if org, _, two := strings.Cut(name, "/"); two {
		if _, ok := c.byName[strings.ToLower(org)]; !ok {
			c.byName[strings.ToLower(org)] = model.Found{Kind: model.Namespace, Name: org}
		}
	}
}

// timeOf is a stated time, or zero.
func timeOf(v any) time.Time {
	text, _ := v.(string)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
