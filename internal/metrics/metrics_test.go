package metrics

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// scrape is what Prometheus gets: sample name with labels -> value.
func scrape(t *testing.T, n Numbers) map[string]string {
	t.Helper()
	rec := httptest.NewRecorder()
	Handler(func() Numbers { return n }).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	samples := make(map[string]string)
	for line := range strings.Lines(rec.Body.String()) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			samples[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return samples
}

func TestSamples(t *testing.T) {
	got := scrape(t, Numbers{
		Version: "v1", Reads: 7, CacheUsed: 1 << 40,
		Sources: []Source{{ID: "hub:https://huggingface.co", Up: true, Latency: 1500 * time.Millisecond}, {ID: "shared:/mnt"}},
	})
	for sample, want := range map[string]string{
		`modelfs_info{version="v1"}`:                                          "1",
		`modelfs_reads_total`:                                                 "7",
		`modelfs_cache_used_bytes`:                                            "1.099511627776e+12",
		`modelfs_source_up{source="hub:https://huggingface.co"}`:              "1",
		`modelfs_source_up{source="shared:/mnt"}`:                             "0",
		`modelfs_source_latency_seconds{source="hub:https://huggingface.co"}`: "1.5",
	} {
		if got[sample] != want {
			t.Errorf("%s is %q, want %q", sample, got[sample], want)
		}
	}
	if _, ok := got["go_goroutines"]; !ok {
		t.Error("Go's own numbers are missing")
	}
}

// Each number of Numbers is exported by exactly one metric: setting one field
// changes one sample.
func TestEveryNumberIsExported(t *testing.T) {
	fields := reflect.TypeFor[Numbers]()
	for i := range fields.NumField() {
		var n Numbers
		v := reflect.ValueOf(&n).Elem().Field(i)
		switch {
		case v.CanUint():
			v.SetUint(12345)
		case v.CanInt():
			v.SetInt(12345)
		default:
			continue
		}
		var changed []string
		for _, m := range metrics {
			if m.value(&n) != 0 {
				changed = append(changed, m.name)
			}
		}
		if len(changed) != 1 {
			t.Errorf("field %s is exported as %v", fields.Field(i).Name, changed)
		}
	}
}

func TestNames(t *testing.T) {
	for _, m := range metrics {
		total := strings.HasSuffix(m.name, "_total")
		if !strings.HasPrefix(m.name, "modelfs_") || total != (m.kind == counter) {
			t.Errorf("%s is not named as its kind is", m.name)
		}
		if !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: the help is not a sentence", m.name)
		}
	}
}
