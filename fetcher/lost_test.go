package fetcher

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// A disk that fails a sync has the file fetched once more; one that fails each
// does not have it fetched again and again.
func TestADiskThatFailsEachSyncIsNotFilledAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		v, file := r.one(hubtest.Pattern(3, 20*mib))
		rd := r.open(v, file)
		defer rd.Close()
		r.hub.Fault(atCDN, hubtest.Always(), hubtest.Hang()) // it is never complete
		l := rd.(*fillReader).l
		l.mu.Lock()
		l.touched = true
		l.mu.Unlock()
		for _, rest := range []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			l.lost(time.Now())
			if rest > 0 {
				<-time.After(rest - time.Second) // virtual
				if _, ok := l.turn(true); ok {
					t.Errorf("it has its turn again sooner than %v after the failure", rest)
				}
				<-time.After(time.Second)
			}
			if _, ok := l.turn(true); !ok {
				t.Errorf("it has no turn %v after the failure", rest)
			}
		}
	})
}

// What the disk does not keep is read on, a pull of it says why, and once the
// disk keeps it, it is kept.
func TestAPullSaysThatTheDiskKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 3*mib)
		v, file := r.one(c)
		blobs := filepath.Join(r.dir, "blobs")
		must(t, os.Remove(blobs))
		must(t, os.WriteFile(blobs, nil, 0o600))
		rd := r.open(v, file)
		defer rd.Close()
		for range 2 {
			if err := r.f.Pull(context.Background(), v, file, nil); !model.IsKind(err, model.NoSpace) || !strings.Contains(err.Error(), "can't be kept") {
				t.Errorf("a pull: %v", err)
			}
			readAll(t, rd, c, mib)
		}
		must(t, os.Remove(blobs))
		<-time.After(verifyAgain + time.Second) // virtual
		must(t, r.f.Pull(context.Background(), v, file, nil))
	})
}
