package integration

import (
	"errors"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"modelfs/internal/hubtest"
)

// aliasCases are repositories, and what model.gguf is in them; "" is nothing.
var aliasCases = []struct {
	name   string
	files  []string
	asked  string // behind the name
	prefer string // --quant
	want   string
}{
	{"one GGUF", []string{"config.json", "m-Q6_K.gguf"}, "", "", "m-Q6_K.gguf"},
	{"several, by the default preference", []string{"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"}, "", "", "m-Q4_K_M.gguf"},
	{"several, by a preference", []string{"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"}, "", "Q2_K,Q8_0", "m-Q2_K.gguf"},
	{"several, by the second preference", []string{"m-Q2_K.gguf", "m-Q8_0.gguf"}, "", "", "m-Q8_0.gguf"},
	{"several, chosen by name", []string{"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"}, ":Q8_0", "", "m-Q8_0.gguf"},
	{"several, chosen by name although another is preferred", []string{"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"}, ":Q4_K_M", "Q8_0", "m-Q4_K_M.gguf"},
	{"in a lower case", []string{"m-Q2_K.gguf", "m-Q4_K_M.gguf"}, ":q4_k_m", "", "m-Q4_K_M.gguf"},
	{"none preferred", []string{"m-IQ3_XS.gguf", "m-Q5_0.gguf"}, "", "", "m-IQ3_XS.gguf"},
	{"a projector beside it", []string{"mmproj-m-F16.gguf", "z-Q5_0.gguf"}, "", "", "z-Q5_0.gguf"},
	{"only a projector", []string{"mmproj-m-F16.gguf"}, "", "", ""},
	{"split", []string{"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"}, "", "", ""},
	{"split, chosen by name", []string{"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf"}, ":Q4_K_M", "", ""},
	{"split beside a single one", []string{"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf"}, "", "", "m-Q8_0.gguf"},
	{"its own name", []string{"a-Q4_K_M.gguf", "model.gguf"}, "", "", "model.gguf"},
}

func TestModelGGUF(t *testing.T) {
	t.Parallel()
	for _, c := range aliasCases {
		t.Run(c.name, func(t *testing.T) {
			hub := hubtest.New(t)
			repo := hubtest.Repo{ID: "org/m"}
			for i, f := range c.files {
				repo.Files = append(repo.Files, hubtest.File{Path: f, Content: pattern{uint64(i), 9000 + int64(i)}.content(), LFS: true})
			}
			hub.AddRepo(repo)
			flags := hubFlags(hub)
			if c.prefer != "" {
				flags = append(flags, "--quant", c.prefer)
			}
			d := start(t, flags...)
			dir := "org/m" + c.asked
			want := slices.DeleteFunc(slices.Clone(c.files), func(f string) bool { // a quantisation leaves out the others
				return !strings.Contains(f, strings.ToUpper(strings.TrimPrefix(c.asked, ":")))
			})
			if c.want == "" {
				if _, err := os.Lstat(d.path(dir, "model.gguf")); !errors.Is(err, iofs.ErrNotExist) {
					t.Errorf("there is a model.gguf: %v", err)
				}
			} else {
				i := slices.Index(c.files, c.want)
				checkReads(t, d.path(dir, "model.gguf"), pattern{uint64(i), 9000 + int64(i)}, "read", "mmap-private")
			}
			if c.want != "" && c.want != "model.gguf" {
				if to, err := os.Readlink(d.path(dir, "model.gguf")); to != c.want {
					t.Errorf("model.gguf is a link to %q, %v, want %q", to, err, c.want)
				}
				want = append(want, "model.gguf")
			}
			if slices.Sort(want); !slices.Equal(inside(t, d.path(dir)), want) {
				t.Errorf("the model has %q, want %q", inside(t, d.path(dir)), want)
			}
		})
	}
}

func TestAQuantisationThatIsNotThere(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 1000}))
	d := start(t, hubFlags(hub)...)
	if _, err := os.Stat(d.path("org/m:Q3_K_S")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("a quantisation that nobody has: %v", err)
	}
}
