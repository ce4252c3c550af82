package integration

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// The questions of the table. A model is "known" if it was listed before the
// failure, and "complete" if all of it was downloaded; a descriptor is "held"
// if it was opened before.
const (
	unknownName   = "lookup of a name that nobody has"
	freshName     = "lookup of a model not asked for before"
	freshList     = "list of a model not asked for before"
	knownName     = "lookup of a known model"
	knownList     = "list of a known model"
	coldOpen      = "open of a file that is not here"
	coldRead      = "first read through a held descriptor"
	completeName  = "lookup of a complete file"
	completeOpen  = "open of a complete file"
	completeRead  = "read of a complete file"
	diskName      = "lookup of a file on this disk"
	diskList      = "list of a model on this disk"
	diskOpen      = "open of a file on this disk"
	diskRead      = "read of a file on this disk"
	rootList      = "list of the root"
	readTimeout   = time.Second // of the daemons here
	coldReadLimit = 5*time.Second + raceAllowance
	// nameLimit is the second that is promised, and what a busy machine adds to
	// the 900 ms after which the daemon answers.
	nameLimit = onTime + 250*time.Millisecond
	// hereLimit is far below the time that waiting for anybody would take
	// (900 ms), and far above what a stat costs on a busy machine.
	hereLimit = 400*time.Millisecond + raceAllowance
)

// limits are the promises. The listing of a model that its source has may
// take longer than a name.
var limits = map[string]time.Duration{
	unknownName: nameLimit, freshName: nameLimit, knownName: nameLimit, freshList: nameLimit + time.Second, knownList: nameLimit, coldOpen: nameLimit, coldRead: coldReadLimit,
	completeName: hereLimit, completeOpen: hereLimit, completeRead: hereLimit, diskName: hereLimit, diskList: hereLimit, diskOpen: hereLimit,
	diskRead: hereLimit, rootList: nameLimit,
}

// answers are what a failure makes of the questions that it may touch; all
// others succeed.
type answers map[string]syscall.Errno

const (
	ok          = syscall.Errno(0)
	absent      = syscall.ENOENT
	denied      = syscall.EACCES
	unreachable = syscall.EHOSTUNREACH
	timedOut    = syscall.ETIMEDOUT
	broken      = syscall.EIO
	unasked     = ^syscall.Errno(0) // who asks it stays in the kernel
)

// A failure is what happens to one source.
type failure struct {
	source string // "hub", "router", "shared" or "local"
	name   string
	env    []string // of the daemon
	begin  func(*rig)
	want   answers
}

// A rig is a daemon with the source that fails, a Hub and a disk that don't.
type rig struct {
	t      *testing.T
	hub    *hubtest.Hub
	router *hubtest.Router
	nas    *share
	tree   string // what the share shows, or the local tree that fails
	d      *daemon
	flags  []string // of d
}

// network are the models of the sources of the network; each has a content of
// its own, for what is here under one name is here under each.
var network = []string{"complete", "known", "held", "fresh"}

func content(which string) pattern {
	return pattern{uint64(len(which)) * 7, 70_000 + int64(len(which))}
}

// Every failure of every source, and every question: the errno and the time.
// With -v it prints the table.
func TestEveryFailureAndEveryQuestion(t *testing.T) {
	t.Parallel()
	var table rows
	t.Run("row", func(t *testing.T) {
		for _, f := range failures {
			t.Run(f.source+" "+f.name, func(t *testing.T) {
				t.Parallel()
				table.add(f, newRig(t, f).ask(f))
			})
		}
	})
	t.Log(table.String())
}

func newRig(t *testing.T, f failure) *rig {
	r := &rig{t: t, hub: hubtest.New(t)}
	r.hub.Grant("hf_friend", "*")
	for _, which := range network {
		repo := hubRepo("org/"+which, content(which))
		repo.Private = strings.Contains(f.name, "private")
		r.hub.AddRepo(repo)
	}
	disk := writeTree(t, map[string][]byte{"disk/model.gguf": pattern{4, 70_000}.bytes()})
	flags := append(hubFlags(r.hub), "--local", disk, "--read-timeout", readTimeout.String(), "--list-timeout", "1s")
	switch f.source {
	case "router":
		r.router = oldRouter(t)
		for _, which := range network {
			r.router.SetModel(routerModel("r-"+which, content(which)))
		}
		flags = append(flags, "--router", r.router.URL(), "--allow", r.router.URL()+"/*")
	case "shared", "local":
		r.tree = writeTree(t, map[string][]byte{"t-known/model.gguf": pattern{3, 8 << 20}.bytes(), "t-fresh/model.gguf": pattern{3, 70_000}.bytes()})
		shown := r.tree
		if f.name != "missing" {
			r.nas = newShare(t, r.tree)
			shown = r.nas.dir
		}
		flags = append(flags, "--"+f.source, shown)
	}
	cache := tempDir(t, "cache")
	if f.name == "backing dir full" {
		if err := unix.Mount("tmpfs", cache, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(cache, unix.MNT_DETACH) })
	}
	r.d = startOn(t, tempDir(t, "mnt"), cache, append(slices.Clone(f.env), flags...)...)
	r.flags = flags
	return r
}

// name is the path of a model or of its file at the source that fails.
func (r *rig) name(f failure, which string) string {
	return r.d.path(r.prefix(f) + which)
}

func (r *rig) prefix(f failure) string {
	return map[string]string{"hub": "org/", "router": "r-", "shared": "t-", "local": "t-"}[f.source]
}

// ask prepares what was there before, lets the source fail, and asks.
func (r *rig) ask(f failure) map[string]probe {
	complete := r.d.path("org/complete/m-Q4_K_M.gguf")
	if f.source == "router" {
		complete = r.name(f, "complete") + "/model.gguf"
	}
	checkReads(r.t, complete, content("complete"), "read")
	r.d.completes("complete", filepath.Base(complete))
	if _, err := os.ReadDir(r.name(f, "known")); err != nil {
		r.t.Fatal(err)
	}
	inPlace := f.source == "shared" || f.source == "local"
	held := r.name(f, "held") + "/model.gguf"
	if inPlace {
		held = r.name(f, "known") + "/model.gguf"
	}
	reader := newProber(r.t, probeJob{Call: "held", Paths: []string{held}})
	f.begin(r)
	if f.want[coldRead] == unasked {
		reader.leave()
	} else {
		reader.start()
	}
	newcomer := r.d
	if f.source == "router" { // whose list of models is at hand, so it is asked by a daemon that has never seen it
		newcomer = start(r.t, r.flags...)
	}
	got := map[string]probe{}
	r.put(f, true, r.names(f, newcomer), got)
	r.put(f, false, []question{
		{freshList, "list", newcomer.path(r.prefix(f) + "fresh")},
		{knownName, "stat", r.name(f, "known") + "/model.gguf"}, {knownList, "list", r.name(f, "known")}, {coldOpen, "open", r.name(f, "known") + "/model.gguf"},
		{completeName, "stat", complete}, {completeOpen, "open", complete}, {completeRead, "read", complete},
		{diskName, "stat", r.d.path("disk/model.gguf")}, {diskList, "list", r.d.path("disk")}, {diskOpen, "open", r.d.path("disk/model.gguf")},
		{diskRead, "read", r.d.path("disk/model.gguf")}, {rootList, "list", r.d.mount},
	}, got)
	if f.want[coldRead] != unasked {
		r.judge(f, coldRead, reader.results(r.t)[0], got)
	}
	return got
}

// names are the questions about what was not asked for before.
func (r *rig) names(f failure, d *daemon) []question {
	return []question{
		{unknownName, "stat", d.path("nobody-has-this")}, {unknownName, "stat", d.path("org/nobody-has-this")}, {unknownName, "stat", d.path("nobody-has-this-either")},
		{freshName, "stat", d.path(r.prefix(f) + "fresh")},
	}
}

type question struct{ what, call, path string }

// put asks questions, at once or one after the other, and judges the answers.
func (r *rig) put(f failure, atOnce bool, questions []question, got map[string]probe) {
	r.t.Helper()
	job := probeJob{AtOnce: atOnce}
	for _, q := range questions {
		job.Calls, job.Paths = append(job.Calls, q.call), append(job.Paths, q.path)
	}
	for i, p := range probes(r.t, job) {
		r.judge(f, questions[i].what, p, got)
	}
}

// judge compares an answer and keeps the slowest of its kind.
func (r *rig) judge(f failure, what string, p probe, got map[string]probe) {
	if want := f.want[what]; p.Errno != want {
		r.t.Errorf("%s (%s): %s, want %s", what, p.Path, errnoText(p.Errno), errnoText(want))
	}
	if p.Took > limits[what] {
		r.t.Errorf("%s took %v, promised %v", what, p.Took, limits[what])
	}
	if before, seen := got[what]; !seen || p.Took > before.Took {
		got[what] = p
	}
}

// rows is the table as it fills.
type rows struct {
	mu   sync.Mutex // guards list
	list []string
}

func (r *rows) add(f failure, got map[string]probe) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, p := range got {
		r.list = append(r.list, fmt.Sprintf("%s\t%s\t%s\t%s\t%v", f.source, f.name, what, cmp.Or(unix.ErrnoName(p.Errno), "0"), p.Took.Round(100*time.Microsecond)))
	}
}

func (r *rows) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.list)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nsource\tfailure\tquestion\tanswer\tslowest\n%s\n", strings.Join(r.list, "\n"))
	_ = w.Flush() // into memory
	return b.String()
}
