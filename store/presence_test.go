package store

import (
	"testing"

	"modelfs/internal/model"
)

func TestPresentAndPinned(t *testing.T) {
	s := newStore(t)
	id := PartID{Key: "at-present", Source: "hub:x"}
	if s.Present(id.Key) != 0 || s.Pinned(id.Key) {
		t.Error("something of nothing")
	}
	data := make([]byte, 3*BlockSize)
	for i := range data {
		data[i] = byte(i)
	}
	p, err := s.OpenPart(id, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteAt(data[:BlockSize], 0); err != nil {
		t.Fatal(err)
	}
	if n := s.Present(id.Key); n != BlockSize {
		t.Errorf("of an open part %d bytes are present", n)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := s.Present(id.Key); n <= 0 || n >= int64(len(data)) {
		t.Errorf("of a part that nobody has open %d bytes are present", n)
	}
	p, err = s.OpenPart(id, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Complete(t.Context(), Digest{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := s.Present(id.Key); n != int64(len(data)) {
		t.Errorf("of a blob %d bytes are present", n)
	}
	if err := s.Pin(id.Key); err != nil {
		t.Fatal(err)
	}
	alias := model.Key("")
	for key := range s.keys {
		if key != id.Key {
			alias = key
		}
	}
	if alias == "" || !s.Pinned(alias) || !s.Pinned(id.Key) {
		t.Errorf("the pin is not seen under the alias %q", alias)
	}
	if err := s.Unpin(alias); err != nil || s.Pinned(id.Key) {
		t.Errorf("unpinned under its alias it is pinned still: %v", err)
	}
}
