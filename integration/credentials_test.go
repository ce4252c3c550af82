package integration

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// The secrets of these tests; each is a word that nothing else has in it.
const (
	firstToken  = "hf_firstxtokenxofxthexhub"
	secondToken = "hf_secondxtokenxofxthexhub"
	brokenToken = "hf_brokenxtoken with a space"
	routerKey   = "sk_thexkeyxofxthexrouter"
)

// An internet is a proxy behind which there are hosts with names: all that is
// said to each of them is kept.
type internet struct {
	hub    *hubtest.Hub
	router *hubtest.Router

	mu    sync.Mutex          // guards the rest
	heard map[string][]string // host -> requests, with everything in them
	away  bool                // the Hub and the router send everybody to another host
}

const (
	hubHost, routerHost = "hub.test", "router.test"
	elsewhereHost       = "elsewhere.test"
)

// cdns are the hosts that the Hub's files are sent from, by file: a host below
// the Hub's, another port of it, one that ends in its name, one above it, and
// one that has nothing to do with it.
var cdns = map[string]string{"a.bin": "us." + hubHost, "b.bin": hubHost + ":8080", "c.bin": "evil" + hubHost, "d.bin": "test", "e.bin": "cdn.other.test"}

func (n *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var all bytes.Buffer
	fmt.Fprintf(&all, "%s %s\n", r.Method, r.URL)
	_ = r.Header.Write(&all) // into memory
	n.mu.Lock()
	n.heard[r.URL.Host] = append(n.heard[r.URL.Host], all.String())
	away := n.away
	n.mu.Unlock()
	switch host := r.URL.Host; {
	case away && (host == hubHost || host == routerHost):
		http.Redirect(w, r, "http://us."+host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	case host == hubHost:
		n.pass(w, r, n.hub.URL())
	case host == routerHost:
		n.pass(w, r, n.router.URL())
	case slices.Contains(slices.Collect(maps.Values(cdns)), host):
		n.pass(w, r, n.hub.CDN())
	case host == elsewhereHost:
		http.ServeContent(w, r, "f.bin", time.Unix(1e9, 0), bytes.NewReader(pattern{6, 3000}.bytes()))
	default:
		http.Error(w, "no such host", http.StatusBadGateway)
	}
}

// pass asks a scripted server, and puts names in the place of its addresses.
func (n *internet) pass(w http.ResponseWriter, r *http.Request, to string) {
	target, err := url.Parse(to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Host, out.Host = "", target.Host, target.Host
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	if loc := resp.Header.Get("Location"); loc != "" {
		cdn := cdns[filepath.Base(r.URL.Path)]
		w.Header().Set("Location", strings.Replace(strings.Replace(loc, n.hub.CDN(), "http://"+cdn, 1), n.hub.URL(), "http://"+hubHost, 1))
	}
	if link := resp.Header.Get("Link"); link != "" {
		w.Header().Set("Link", strings.Replace(link, n.hub.URL(), "http://"+hubHost, 1))
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // who reads it may leave
}

// told are the hosts that were told a secret.
func (n *internet) told(secret string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var hosts []string
	for host, requests := range n.heard {
		if strings.Contains(strings.Join(requests, ""), secret) {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

func (n *internet) asked(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.heard[host])
}

func (n *internet) send(away bool) {
	n.mu.Lock()
	n.away = away
	n.mu.Unlock()
}

func privateRepo(id string) hubtest.Repo {
	repo := hubtest.Repo{ID: id, Private: true, Files: []hubtest.File{{Path: "config.json", Content: hubtest.Text("{}")}}}
	for i, name := range slices.Sorted(maps.Keys(cdns)) {
		repo.Files = append(repo.Files, hubtest.File{Path: name, Content: secretContent(id, i).content(), LFS: true})
	}
	return repo
}

func secretContent(id string, i int) pattern { return pattern{uint64(len(id)*100 + i), 70_000} }

func newInternet(t *testing.T) (n *internet, env, flags []string) {
	n = &internet{hub: hubtest.New(t), heard: map[string][]string{}}
	n.router = hubtest.NewRouter(t, hubtest.RouterConfig{Gen: hubtest.NewGen, Keys: map[string][]string{routerKey: {"registry.read"}}})
	n.hub.AddRepo(privateRepo("org/one"))
	n.hub.AddRepo(privateRepo("org/other"))
	n.hub.Grant(firstToken, "org/one")
	n.hub.Grant(secondToken, "*")
	for _, name := range []string{"routed", "routed-too"} {
		n.router.SetModel(hubtest.RouterModel{Name: name, Format: "safetensors", Files: []hubtest.RouterFile{
			{Name: "a.bin", URL: "http://" + hubHost + "/org/one/resolve/main/a.bin"}, {Name: "f.bin", URL: "http://" + elsewhereHost + "/f.bin"}}})
	}
	proxy := httptest.NewServer(n)
	t.Cleanup(proxy.Close)
	env = []string{"HTTP_PROXY=" + proxy.URL}
	flags = []string{"--hf-endpoint", "http://" + hubHost, "--router", "http://" + routerHost, "--allow", "http://" + elsewhereHost + "/*"}
	for _, host := range append(slices.Collect(maps.Values(cdns)), hubHost, routerHost, "us."+hubHost, "us."+routerHost) {
		flags = append(flags, "--allow", "http://"+host+"/*")
	}
	return n, env, flags
}

// A token goes to the very host that it is for, and is in nothing that a
// person or a program gets to see.
func TestASecretReachesItsHostAndNobodyElse(t *testing.T) {
	n, env, flags := newInternet(t)
	tokens := tempDir(t, "tokens")
	hubFile, keyFile := filepath.Join(tokens, "hub"), filepath.Join(tokens, "router")
	writeFile(t, hubFile, []byte(firstToken+"\n"))
	writeFile(t, keyFile, []byte(routerKey+"\n"))
	env = append(env, "HF_TOKEN_PATH="+hubFile)
	flags = append(flags, "--router-token-file", keyFile, "--listen", "127.0.0.1:0")
	d := start(t, append(slices.Clone(env), flags...)...)

	for i, name := range slices.Sorted(maps.Keys(cdns)) {
		checkReads(t, d.path("org/one", name), secretContent("org/one", i), "read")
		if n.asked(cdns[name]) == 0 {
			t.Errorf("%s was not asked, so this test shows nothing", cdns[name])
		}
	}
	checkReads(t, d.path("routed/f.bin"), pattern{6, 3000}, "read")
	wantProbe(t, d.path("org/other"), 2) // ENOENT: the first token does not show it
	writeFile(t, hubFile, []byte(secondToken+"\n"))
	n.hub.Revoke(firstToken)
	checkReads(t, d.path("org/other@main/a.bin"), secretContent("org/other", 0), "read") // the answer about the other name counts for a minute
	n.send(true)
	_, _ = os.Stat(d.path("org/sent-away"))
	_, _ = os.Stat(d.path("routed-too/f.bin")) // it is in the list that is at hand
	writeFile(t, hubFile, []byte(brokenToken+"\n"))
	_, _ = os.Stat(d.path("org/broken"))
	if n.asked("us."+hubHost) < 2 || n.asked("us."+routerHost) == 0 {
		t.Error("nobody was redirected, so this test shows nothing")
	}

	for secret, want := range map[string]string{firstToken: hubHost, secondToken: hubHost, brokenToken: "", routerKey: routerHost} {
		if got := strings.Join(n.told(secret), " "); got != want {
			t.Errorf("%.9s… was told to %q, not to %q", secret, got, want)
		}
	}
	for what, text := range d.everythingShown(env, flags) {
		for _, secret := range []string{firstToken, secondToken, brokenToken, "hf_brokenxtoken", routerKey} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %.9s…", what, secret)
			}
		}
	}
}

// everythingShown is what anybody could see of a daemon: its log, its pages,
// the control directory, what the commands print, and its processes.
func (d *daemon) everythingShown(env, flags []string) map[string]string {
	d.t.Helper()
	shown := map[string]string{}
	for _, name := range []string{"status.json", "explain/org/one.json", "explain/org/other.json", "explain/routed.json", "explain/org/broken.json", "explain/sent-away.json"} {
		shown[".modelfs/"+name] = jsonText(d.control(name))
	}
	for _, args := range [][]string{{"status", "--json"}, {"status"}, {"ls", "-a", "--json"}, {"doctor", "--json"}, {"pull", "org/broken"},
		{"explain", "org/one"}, {"explain", "org/broken"}, {"explain", "--mount", d.mount, "routed/f.bin"}, {"help", "mount"}, {"mount", "--log-level", "debug", "/nonexistent"}} {
		cmd := exec.Command(binary, args...)
		if args[0] != "help" {
			cmd = exec.Command(binary, append(append(args, flags...), "--cache", d.cache, "--no-discover")...)
		}
		cmd.Env = append(cleanEnv(d.t), env...)
		out, _ := cmd.CombinedOutput() // some of them fail
		shown[strings.Join(args, " ")] = string(out)
		if len(out) == 0 {
			d.t.Errorf("%v says nothing", args)
		}
	}
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(d.stderr.String())
	if address == nil {
		d.t.Fatal("nothing is served")
	}
	for _, page := range []string{"/", "/metrics", "/healthz"} {
		resp, err := http.Get("http://" + address[1] + page)
		if err != nil {
			d.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || len(text) == 0 {
			d.t.Errorf("%s: %d bytes, %v", page, len(text), err)
		}
		shown[page] = string(text)
	}
	for _, pid := range descendants(d.cmd.Process.Pid) {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil {
				d.t.Fatal(err)
			}
			shown[fmt.Sprintf("%s of process %d", file, pid)] = string(text)
		}
	}
	shown["the log"] = d.stderr.String()
	return shown
}

// A token that comes in a variable is where it was put, in the environment of
// the service itself, and on no command line; a process that serves nothing
// does not have it.
func TestASecretInAVariable(t *testing.T) {
	n, env, flags := newInternet(t)
	d := start(t, append(append(env, "HF_TOKEN="+firstToken, "MODELFS_ROUTER_TOKEN="+routerKey), flags...)...)
	checkReads(t, d.path("org/one/a.bin"), secretContent("org/one", 0), "read")
	checkReads(t, d.path("routed/f.bin"), pattern{6, 3000}, "read")
	for secret, want := range map[string]string{firstToken: hubHost, routerKey: routerHost} {
		if got := strings.Join(n.told(secret), " "); got != want {
			t.Errorf("%.9s… was told to %q, not to %q", secret, got, want)
		}
		if strings.Contains(d.stderr.String(), secret) {
			t.Errorf("%.9s… is in the log", secret)
		}
	}
	probes := 0
	for _, pid := range descendants(d.cmd.Process.Pid) {
		args := readFile(t, fmt.Sprintf("/proc/%d/cmdline", pid))
		environ := readFile(t, fmt.Sprintf("/proc/%d/environ", pid))
		for _, secret := range []string{firstToken, routerKey} {
			if strings.Contains(args, secret) || strings.Contains(args, "\x00probe\x00") && strings.Contains(environ, secret) {
				t.Errorf("process %q has %.9s…", args, secret)
			}
		}
		if strings.Contains(args, "\x00probe\x00") {
			probes++
		}
	}
	if probes != 1 {
		t.Errorf("%d probes, so this test shows less than it says", probes)
	}
}
