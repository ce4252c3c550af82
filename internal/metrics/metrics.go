// Package metrics answers which numbers modelfs exports, and under which
// names. Every one of them is declared in this file.
//
// Invariants:
//
//  1. Nothing is counted here: whoever owns a number counts it, and the state
//     is taken when somebody scrapes. A scrape costs no I/O.
//  2. Labels take their values from the configuration (sources), never from
//     names, files or hosts, so the number of series is bounded.
//  3. The registry is modelfs's own; the global one is not touched.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Numbers is the state of one moment. Counts marked "since start" never fall.
type Numbers struct {
	Version string

	Lookups     uint64 // names that the kernel looked up, since start
	Reads       uint64 // read requests that reached this process, since start
	ReadBytes   uint64 // bytes of their replies, since start
	Passthrough uint64 // opens that were handed to the kernel, since start
	Served      uint64 // opens that this process serves, since start
	Nodes       int    // nodes that the kernel knows
	Handles     int    // open files and directories
	Backing     int    // files that are registered with the kernel

	Fills   int    // downloads under way
	Waiting int    // reads that wait for bytes
	Fetched uint64 // bytes received from origins, since start
	Again   uint64 // bytes asked of origins that they had been asked for before, since start

	CacheBudget   int64 // bytes that the backing dir may hold
	CacheUsed     int64 // bytes that it holds
	CacheReserved int64 // bytes that downloads under way still need
	CacheFree     int64 // bytes that are free on its disk
	CacheBlobs    int   // complete files
	CacheParts    int   // incomplete files
	CachePinned   int   // complete files that are never evicted

	Sources []Source
}

// Source is the state of one configured source.
type Source struct {
	ID      string
	Up      bool          // it is being asked: its breaker is closed
	Latency time.Duration // of its last answer
}

// metric is one exported number without labels.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(*Numbers) float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

var metrics = []metric{
	{"modelfs_lookups_total", "Names that the kernel looked up.", counter, func(n *Numbers) float64 { return float64(n.Lookups) }},
	{"modelfs_reads_total", "Read requests that reached modelfs; passthrough reads are not among them.", counter, func(n *Numbers) float64 { return float64(n.Reads) }},
	{"modelfs_read_bytes_total", "Bytes that modelfs gave to readers itself.", counter, func(n *Numbers) float64 { return float64(n.ReadBytes) }},
	{"modelfs_opens_passthrough_total", "Opens that were handed to the kernel.", counter, func(n *Numbers) float64 { return float64(n.Passthrough) }},
	{"modelfs_opens_served_total", "Opens that modelfs serves itself.", counter, func(n *Numbers) float64 { return float64(n.Served) }},
	{"modelfs_nodes", "Nodes that the kernel knows.", gauge, func(n *Numbers) float64 { return float64(n.Nodes) }},
	{"modelfs_handles", "Open files and directories.", gauge, func(n *Numbers) float64 { return float64(n.Handles) }},
	{"modelfs_backing_files", "Files that are registered with the kernel for passthrough.", gauge, func(n *Numbers) float64 { return float64(n.Backing) }},
	{"modelfs_fills", "Downloads under way.", gauge, func(n *Numbers) float64 { return float64(n.Fills) }},
	{"modelfs_waiting_reads", "Reads that wait for bytes.", gauge, func(n *Numbers) float64 { return float64(n.Waiting) }},
	{"modelfs_fetched_bytes_total", "Bytes received from origins.", counter, func(n *Numbers) float64 { return float64(n.Fetched) }},
	{"modelfs_asked_again_bytes_total", "Bytes asked of origins that they had been asked for before, because they seemed late or had failed.", counter, func(n *Numbers) float64 { return float64(n.Again) }},
	{"modelfs_cache_budget_bytes", "Bytes that the backing directory may hold.", gauge, func(n *Numbers) float64 { return float64(n.CacheBudget) }},
	{"modelfs_cache_used_bytes", "Bytes that the backing directory holds.", gauge, func(n *Numbers) float64 { return float64(n.CacheUsed) }},
	{"modelfs_cache_reserved_bytes", "Bytes that downloads under way still need.", gauge, func(n *Numbers) float64 { return float64(n.CacheReserved) }},
	{"modelfs_cache_free_bytes", "Bytes that are free on the backing directory's disk.", gauge, func(n *Numbers) float64 { return float64(n.CacheFree) }},
	{"modelfs_cache_blobs", "Complete files in the backing directory.", gauge, func(n *Numbers) float64 { return float64(n.CacheBlobs) }},
	{"modelfs_cache_parts", "Incomplete files in the backing directory.", gauge, func(n *Numbers) float64 { return float64(n.CacheParts) }},
	{"modelfs_cache_pinned", "Complete files that are never evicted.", gauge, func(n *Numbers) float64 { return float64(n.CachePinned) }},
}

// What has labels.
var (
	infoDesc    = prometheus.NewDesc("modelfs_info", "1; the label is the version.", []string{"version"}, nil)
	upDesc      = prometheus.NewDesc("modelfs_source_up", "Whether the source is being asked (1) or left alone because it failed (0).", []string{"source"}, nil)
	latencyDesc = prometheus.NewDesc("modelfs_source_latency_seconds", "Time that the source's last answer took.", []string{"source"}, nil)
)

// Handler serves the numbers in the format that Prometheus scrapes, with Go's
// and the process's own. now is called for each scrape and must be quick.
func Handler(now func() Numbers) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(now), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector turns Numbers into samples.
type collector struct {
	now   func() Numbers
	descs []*prometheus.Desc // of metrics, in their order
}

func newCollector(now func() Numbers) *collector {
	c := &collector{now: now}
	for _, m := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, nil, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
	out <- infoDesc
	out <- upDesc
	out <- latencyDesc
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	n := c.now()
	for i, m := range metrics {
		out <- prometheus.MustNewConstMetric(c.descs[i], m.kind, m.value(&n))
	}
	out <- prometheus.MustNewConstMetric(infoDesc, gauge, 1, n.Version)
	for _, s := range n.Sources {
		up := 0.0
		if s.Up {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(upDesc, gauge, up, s.ID)
		out <- prometheus.MustNewConstMetric(latencyDesc, gauge, s.Latency.Seconds(), s.ID)
	}
}
