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
	// hereLimit is far below the time that waiting for anybody would take
	// (900 ms), and far above what a stat costs on a busy machine.
	hereLimit = 400*time.Millisecond + raceAllowance
)

// limits are the promises. The listing of a model that its source has may
// take longer than a name.
var limits = map[string]time.Duration{
	unknownName: onTime, freshName: onTime, knownName: onTime, freshList: onTime + time.Second, knownList: onTime, coldOpen: onTime, coldRead: coldReadLimit,
	completeName: hereLimit, completeOpen: hereLimit, completeRead: hereLimit, diskName: hereLimit, diskList: hereLimit, diskOpen: hereLimit,
	diskRead: hereLimit, rootList: onTime,
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
)

// A failure is what happens to one source.
type failure struct {
	source string // "hub", "router", "shared" or "local"
	name   string
	flags  []string
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
}

// noAnswer are the failures in which a server says nothing that counts.
func noAnswer(source string, site func(*rig) *hubtest.Site) []failure {
	down := answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable, coldOpen: unreachable, coldRead: timedOut}
	var list []failure
	for name, e := range map[string]hubtest.Effect{
		"hangs": hubtest.Hang(), "500": hubtest.Status(500, nil, ""), "503, HTML": hubtest.HTML(503), "404, HTML": hubtest.HTML(404), "200, HTML": hubtest.HTML(200),
		"429, Retry-After 120": hubtest.RateLimited(hubtest.RetryAfter, 2*time.Minute), "429, RateLimit": hubtest.RateLimited(hubtest.LimitHeader, 2*time.Minute),
		"429": hubtest.RateLimited(hubtest.LimitUnstated, 0), "drops": hubtest.Drop(hubtest.Reset), "closes": hubtest.Drop(hubtest.CleanClose),
		"rubbish":         hubtest.Status(200, map[string][]string{"Content-Type": {"application/json"}}, `{"id":"`+strings.Repeat("x", 100)),
		"redirect circle": hubtest.RedirectLoop(), "redirect to nowhere": hubtest.NoLocation(), "redirect to the metadata service": hubtest.Redirect("http://169.254.169.254/latest/meta-data"),
	} {
		list = append(list, failure{source, name, nil, func(r *rig) { site(r).Fault(hubtest.Filter{}, hubtest.Always(), e) }, down})
	}
	return append(list, failure{source, "refuses", nil, func(r *rig) { site(r).Refuse() }, down})
}

func theHub(r *rig) *hubtest.Site    { return r.hub.Site }
func theRouter(r *rig) *hubtest.Site { return r.router.Site }

// api is the fault of one kind of answer of the Hub's API.
func api(path string, e hubtest.Effect) func(*rig) {
	return func(r *rig) {
		r.hub.Fault(hubtest.Filter{Host: hubtest.AtHub, Path: path}, hubtest.Always(), e)
	}
}

var failures = slices.Concat(noAnswer("hub", theHub), noAnswer("router", theRouter), []failure{
	{"hub", "none", nil, func(*rig) {}, answers{unknownName: absent}},
})

// Every failure of every source, and every question: the errno and the time.
// With -v it prints the table.
func TestEveryFailureAndEveryQuestion(t *testing.T) {
	var table rows
	t.Run("row", func(t *testing.T) {
		for _, f := range failures {
			t.Run(f.source+" "+f.name, func(t *testing.T) {
				t.Parallel() // most of it is waiting
				table.add(f, newRig(t, f).ask(f))
			})
		}
	})
	t.Log(table.String())
}

func newRig(t *testing.T, f failure) *rig {
	r := &rig{t: t, hub: hubtest.New(t)}
	for _, repo := range []string{"complete", "known", "held", "fresh"} {
		r.hub.AddRepo(hubRepo("org/"+repo, pattern{1, 70_000}))
	}
	disk := writeTree(t, map[string][]byte{"disk/model.gguf": pattern{4, 70_000}.bytes()})
	flags := append(hubFlags(r.hub), "--local", disk, "--read-timeout", readTimeout.String(), "--list-timeout", "1s")
	switch f.source {
	case "router":
		r.router = oldRouter(t)
		for _, name := range []string{"complete", "known", "held", "fresh"} {
			r.router.SetModel(routerModel("r-"+name, pattern{2, 70_000}))
		}
		flags = append(flags, "--router", r.router.URL(), "--allow", r.router.URL()+"/*")
	case "shared", "local":
		r.tree = writeTree(t, map[string][]byte{"t-known/model.gguf": pattern{3, 70_000}.bytes(), "t-fresh/model.gguf": pattern{3, 70_000}.bytes()})
		r.nas = newShare(t, r.tree)
		flags = append(flags, "--"+f.source, r.nas.dir)
	}
	r.d = start(t, append(append(r.env(f), flags...), f.flags...)...)
	return r
}

// env is the environment of the failures of credentials.
func (r *rig) env(f failure) []string {
	if f.name == "bad token" {
		return []string{"HF_TOKEN=hf_nobody"}
	}
	return nil
}

// name is the path of a model or of its file at the source that fails.
func (r *rig) name(f failure, which string) string {
	return r.d.path(map[string]string{"hub": "org/", "router": "r-", "shared": "t-", "local": "t-"}[f.source] + which)
}

// ask prepares what was there before, lets the source fail, and asks.
func (r *rig) ask(f failure) map[string]probe {
	complete := r.d.path("org/complete/m-Q4_K_M.gguf")
	if f.source == "router" {
		complete = r.name(f, "complete") + "/model.gguf"
	}
	checkReads(r.t, complete, routerOr(f, pattern{1, 70_000}), "read")
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

	asked := []question{
		{unknownName, "stat", r.d.path("nobody-has-this")}, {unknownName, "stat", r.d.path("org/nobody-has-this")}, {unknownName, "stat", r.d.path("nobody-has-this-either")},
		{freshName, "stat", r.name(f, "fresh")}, {freshList, "list", r.name(f, "fresh")},
		{knownName, "stat", r.name(f, "known") + "/model.gguf"}, {knownList, "list", r.name(f, "known")}, {coldOpen, "open", r.name(f, "known") + "/model.gguf"},
		{completeName, "stat", complete}, {completeOpen, "open", complete}, {completeRead, "read", complete},
		{diskName, "stat", r.d.path("disk/model.gguf")}, {diskList, "list", r.d.path("disk")}, {diskOpen, "open", r.d.path("disk/model.gguf")},
		{diskRead, "read", r.d.path("disk/model.gguf")}, {rootList, "list", r.d.mount},
	}
	job := probeJob{}
	for _, q := range asked {
		job.Calls, job.Paths = append(job.Calls, q.call), append(job.Paths, q.path)
	}
	got := map[string]probe{}
	for i, p := range probes(r.t, job) {
		r.judge(f, asked[i].what, p, got)
	}
	reader.start()
	r.judge(f, coldRead, reader.results(r.t)[0], got)
	return got
}

type question struct{ what, call, path string }

func routerOr(f failure, p pattern) pattern {
	if f.source == "router" {
		return pattern{2, 70_000}
	}
	return p
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
