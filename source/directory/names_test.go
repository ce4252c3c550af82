package directory

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/guard"
)

// Everyone who asks while a walk is under way gets its answer, and no second
// walk gets stuck.
func TestOneWalkForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}), model.Shared)
		w, mine := s.joinWalk()
		if !mine {
			t.Fatal("a walk is under way")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Names(ctx); !model.IsKind(err, model.Unavailable) {
			t.Errorf("while the walk hangs: %v", err)
		}
		var asking sync.WaitGroup
		for range 5 {
			asking.Go(func() {
				if found, err := s.Names(context.Background()); err != nil || len(found) != 1 || found[0].Name != "walked" {
					t.Errorf("joined: %v, %v", found, err)
				}
			})
		}
		synctest.Wait()
		s.endWalk(w, []model.Found{{Name: "walked"}}, nil)
		asking.Wait()
		if found, err := s.Names(context.Background()); err != nil || len(found) != 1 || found[0].Name != "m" {
			t.Errorf("the next walk: %v, %v", found, err)
		}
	})
}

// A walk that can't begin fails everyone, and the next one begins.
func TestWalkOfAHungShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}), model.Shared)
		hung, back := make(chan struct{}), make(chan struct{})
		s.Guard = guard.New(s.ID(), time.Minute, func() error { <-back; return nil }, s.Log)
		defer s.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := guard.Run(ctx, s.Guard, "hanging", func() (int, error) { <-hung; return 0, nil }, nil)
		if !model.IsKind(err, model.Unavailable) {
			t.Fatalf("hanging: %v", err)
		}
		for range 2 {
			if _, err := s.Names(context.Background()); !model.IsKind(err, model.Unavailable) {
				t.Errorf("hung: %v", err)
			}
		}
		close(back)
		close(hung)
		synctest.Wait()
		if found, err := s.Names(context.Background()); err != nil || len(found) != 1 {
			t.Errorf("back: %v, %v", found, err)
		}
	})
}

func TestIdentity(t *testing.T) {
	for kind, want := range map[model.SourceKind]string{model.Local: "local:/srv/models", model.Shared: "shared:/srv/models"} {
		if s := source(t, "/srv/models/", kind); s.ID() != want || s.Kind() != kind {
			t.Errorf("%s, %v", s.ID(), s.Kind())
		}
	}
}
