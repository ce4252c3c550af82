package integration

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// noAnswer are the failures in which a server says nothing that counts.
func noAnswer(source string, site func(*rig) *hubtest.Site) []failure {
	down := answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable, coldOpen: unreachable, coldRead: timedOut}
	wrong := with(down, answers{coldOpen: broken, coldRead: broken}) // what is answered in the file's place contradicts it
	var list []failure
	for _, f := range []struct {
		name   string
		effect hubtest.Effect
		want   answers
	}{
		{"hangs", hubtest.Hang(), with(down, answers{coldOpen: ok})}, // undecided: the read will tell
		{"drops", hubtest.Drop(hubtest.Reset), down},
		{"closes", hubtest.Drop(hubtest.CleanClose), down},
		{"500", hubtest.Status(500, nil, ""), down},
		{"503 for people", hubtest.HTML(503), down},
		{"404 for people", hubtest.HTML(404), down},
		{"403 for people", hubtest.HTML(403), down},
		{"login page", hubtest.HTML(200), down},
		{"429, Retry-After", hubtest.RateLimited(hubtest.RetryAfter, 2*time.Minute), down},
		{"429, RateLimit", hubtest.RateLimited(hubtest.LimitHeader, 2*time.Minute), down},
		{"429, unstated", hubtest.RateLimited(hubtest.LimitUnstated, 0), down},
		{"rubbish", hubtest.Status(200, http.Header{"Content-Type": {"application/json"}}, `{"id":"`), wrong},
		{"redirect circle", hubtest.RedirectLoop(), wrong},
		{"redirect to nowhere", hubtest.Status(302, nil, ""), wrong},
		{"redirect to a metadata service", hubtest.Redirect("http://169.254.169.254/latest/meta-data"),
			answers{unknownName: denied, freshName: denied, freshList: denied, coldOpen: denied, coldRead: denied}},
	} {
		list = append(list, failure{source, f.name, nil, func(r *rig) { site(r).Fault(hubtest.Filter{}, hubtest.Always(), f.effect) }, f.want})
	}
	return append(list, failure{source, "refuses", nil, func(r *rig) { site(r).Refuse() }, down})
}

// with is a with some answers changed.
func with(a, changes answers) answers {
	a = maps.Clone(a)
	maps.Copy(a, changes)
	return a
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
	{"hub", "nothing wrong", nil, func(*rig) {}, answers{unknownName: absent}},
	{"hub", "wrong types", nil, api("/api/*", hubtest.WrongTypes()), answers{unknownName: absent, // which the Hub says in headers, too
		freshName: unreachable, freshList: unreachable}},
	{"hub", "endless pages", nil, api("/api/*/tree/*", hubtest.EndlessPages()), answers{unknownName: absent, freshList: unreachable}},
	{"hub", "endless JSON", nil, api("/api/*", hubtest.HugeJSON(1<<30)), answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable}},
	{"hub", "endless JSON of a tree", nil, api("/api/*/tree/*", hubtest.HugeJSON(1<<30)), answers{unknownName: absent, freshList: unreachable}},
	{"hub", "slow", nil, api("*", hubtest.DripRate(20)), answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable}},
	{"hub", "token bad", []string{"HF_TOKEN=hf_nobody"}, func(*rig) {}, answers{unknownName: absent}},
	{"hub", "token revoked, all private", []string{"HF_TOKEN=hf_friend"}, func(r *rig) { r.hub.Revoke("hf_friend") },
		answers{unknownName: absent, freshName: absent, freshList: absent, coldOpen: denied}},
	{"hub", "gated", nil, func(r *rig) { r.gate() }, answers{unknownName: absent, freshName: denied, freshList: denied, coldOpen: denied}},
	{"hub", "gone", nil, func(r *rig) { r.gone() }, answers{unknownName: absent, freshName: absent, freshList: absent, coldOpen: denied}},
	{"hub", "CDN hangs", nil, func(r *rig) { r.cdn(hubtest.Hang()) }, answers{unknownName: absent, coldRead: timedOut}},
	{"hub", "CDN 403", nil, func(r *rig) { r.cdn(hubtest.Status(403, nil, "")) }, answers{unknownName: absent, coldRead: denied}},
	{"hub", "backing dir full", nil, func(r *rig) { r.fillDisk() }, answers{unknownName: absent}}, // even what has to be evicted
	{"hub", "CDN corrupt length", nil, func(r *rig) { r.cdn(hubtest.WrongContentRange("bytes 0-9/10")) }, answers{unknownName: absent, coldRead: timedOut}},
	{"router", "nothing wrong", nil, func(*rig) {}, answers{unknownName: absent}},
	{"router", "wrong types", nil, func(r *rig) { r.router.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.WrongTypes()) },
		answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable}},
	{"router", "endless JSON", nil, func(r *rig) {
		r.router.Fault(hubtest.Filter{Path: "/v0/models"}, hubtest.Always(), hubtest.HugeJSON(1<<30))
	},
		answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable}},
	{"router", "key refused", nil, func(r *rig) {
		r.router.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Status(401, nil, "Invalid API key"))
	}, answers{unknownName: denied, freshName: denied, freshList: denied, coldOpen: denied, coldRead: denied}},
	{"router", "gone", nil, func(r *rig) { r.routerGone() }, answers{unknownName: absent, freshName: absent, freshList: absent, coldOpen: absent, coldRead: absent}},
}, trees("shared"), trees("local"))

// trees are the failures of a tree. Where it fails, nothing in it can be
// opened; what is open is the filesystem's own.
func trees(source string) []failure {
	down := answers{unknownName: unreachable, freshName: unreachable, freshList: unreachable, knownName: unreachable, knownList: unreachable, coldOpen: unreachable}
	gone := answers{unknownName: absent, freshName: absent, freshList: absent, knownName: absent, knownList: absent, coldOpen: absent}
	return []failure{
		{source, "nothing wrong", nil, func(*rig) {}, answers{unknownName: absent}},
		{source, "hangs", nil, func(r *rig) { r.nas.set("hang") }, with(down, answers{coldRead: unasked})},
		{source, "EIO", nil, func(r *rig) { r.nas.set("fail") }, with(down, answers{coldRead: unasked})},
		{source, "emptied", nil, func(r *rig) { r.emptyTree() }, gone},
		{source, "missing", nil, func(r *rig) { r.removeTree() }, map[string]answers{"local": gone, "shared": down}[source]}, // a share may not be mounted yet
		{source, "read-only", nil, func(r *rig) { r.readOnly() }, answers{unknownName: absent}},
	}
}

// cdn is the fault of the host that sends the files.
func (r *rig) cdn(e hubtest.Effect) {
	r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN}, hubtest.Always(), e)
}

func (r *rig) gate() {
	for _, which := range network {
		repo := hubRepo("org/"+which, content(which))
		repo.Gated = "manual"
		r.hub.AddRepo(repo)
	}
}

// fillDisk leaves the backing dir's filesystem no room.
func (r *rig) fillDisk() {
	if err := os.WriteFile(filepath.Join(r.d.cache, "filler"), make([]byte, 16<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		r.t.Fatalf("the disk is not full: %v", err)
	}
}

func (r *rig) routerGone() {
	for _, which := range network {
		r.router.RemoveModel("r-" + which)
	}
}

func (r *rig) emptyTree() {
	for _, which := range []string{"known", "fresh"} {
		if err := os.RemoveAll(filepath.Join(r.tree, "t-"+which)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) removeTree() {
	if err := os.Rename(r.tree, r.tree+".away"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(r.tree + ".away") })
}

func (r *rig) readOnly() {
	if err := unix.Mount("", r.nas.dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) gone() {
	for _, which := range network {
		r.hub.RemoveRepo("org/" + which)
	}
}
