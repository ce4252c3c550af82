package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"modelfs/fetcher"
	"modelfs/internal/metrics"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// status is .modelfs/status.json.
type status struct {
	Version    string                  `json:"version"`
	PID        int                     `json:"pid"`
	Supervisor int                     `json:"supervisor"` // its process id; 0 without one
	Started    time.Time               `json:"started"`
	Backends   []string                `json:"backends"` // what listings are for
	Mount      mountStatus             `json:"mount"`
	Cache      cacheStatus             `json:"cache"`
	Fetch      fetchStatus             `json:"fetch"`
	Sources    []resolver.SourceStatus `json:"sources"` // in the order in which they are believed
	Fills      []fetcher.FillStatus    `json:"fills"`
}

// mountStatus counts what the kernel asked for since the mount.
type mountStatus struct {
	Point       string `json:"point"`
	Lookups     uint64 `json:"lookups"`
	Reads       uint64 `json:"reads"` // passthrough reads are not among them
	ReadBytes   uint64 `json:"read_bytes"`
	Passthrough uint64 `json:"opens_passthrough"`
	Served      uint64 `json:"opens_served"`
	Nodes       int    `json:"nodes"`
	Handles     int    `json:"handles"`
	Backing     int    `json:"backing_files"`
}

// cacheStatus is the backing dir; sizes are bytes.
type cacheStatus struct {
	Dir      string `json:"dir"`
	Budget   int64  `json:"budget"`
	Used     int64  `json:"used"`
	Reserved int64  `json:"reserved"` // by fills under way
	Free     int64  `json:"free"`     // of its disk
	Blobs    int    `json:"blobs"`
	Parts    int    `json:"parts"`
	Pinned   int    `json:"pinned"`
}

// fetchStatus counts what was fetched since the start.
type fetchStatus struct {
	Bytes    int64 `json:"bytes"`
	Again    int64 `json:"asked_again"` // bytes that origins had been asked for before
	Requests int64 `json:"requests"`
	Fills    int   `json:"fills"`
	Waiting  int   `json:"waiting_reads"`
}

// status is a snapshot; it does no I/O and does not wait.
func (d *daemon) status() status {
	s := status{
		Version: version(), PID: os.Getpid(), Supervisor: int(d.supervisor.Load()), Started: d.started.Round(0),
		Backends: d.machine.Names(),
		Mount:    mountStatus{Point: d.point}, Sources: d.resolver.Status(), Fills: d.fetcher.Status(),
	}
	if tree := d.mounted.Load(); tree != nil {
		t := tree.Stats()
		s.Mount = mountStatus{d.point, t.Lookups, t.Reads, t.ReadBytes, t.Passthrough, t.Served, t.Nodes, t.Handles, t.Backing}
	}
	u := d.store.Usage()
	s.Cache = cacheStatus{d.cfg.Cache, u.Budget, u.Used, u.Reserved, u.Free, u.Blobs, u.Parts, u.Pinned}
	f := d.fetcher.Stats()
	s.Fetch = fetchStatus{f.Fetched, f.Again, f.Requests, f.Fills, f.Waiting}
	return s
}

// numbers is status for metrics.
func (s status) numbers() metrics.Numbers {
	n := metrics.Numbers{
		Version: s.Version,
		Lookups: s.Mount.Lookups, Reads: s.Mount.Reads, ReadBytes: s.Mount.ReadBytes, Passthrough: s.Mount.Passthrough,
		Served: s.Mount.Served, Nodes: s.Mount.Nodes, Handles: s.Mount.Handles, Backing: s.Mount.Backing,
		Fills: s.Fetch.Fills, Waiting: s.Fetch.Waiting, Fetched: uint64(max(s.Fetch.Bytes, 0)), Again: uint64(max(s.Fetch.Again, 0)),
		CacheBudget: s.Cache.Budget, CacheUsed: s.Cache.Used, CacheReserved: s.Cache.Reserved, CacheFree: s.Cache.Free,
		CacheBlobs: s.Cache.Blobs, CacheParts: s.Cache.Parts, CachePinned: s.Cache.Pinned,
	}
	for _, src := range s.Sources {
		n.Sources = append(n.Sources, metrics.Source{
			ID: src.ID, Up: src.Breaker != "open", Latency: time.Duration(src.LatencyMS * float64(time.Millisecond)),
		})
	}
	return n
}

// maxStatus bounds a status text; it is also the largest read that the mount
// takes in one request, so that asking for the status is one READ.
const maxStatus = 1 << 20

// readStatus asks the daemon of a mount. It costs that daemon one READ, which
// the next status counts.
func readStatus(point string) (status, error) {
	var s status
	f, err := os.Open(filepath.Join(point, model.ControlDir, "status.json"))
	if err != nil {
		return s, err
	}
	defer f.Close()
	buf := make([]byte, maxStatus)
	n, err := f.Read(buf)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(buf[:n], &s)
}
