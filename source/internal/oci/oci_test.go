package oci

import (
	"fmt"
	"strings"
	"testing"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var hash = strings.Repeat("0a", 32)

func TestParse(t *testing.T) {
	layers, err := Parse(fmt.Appendf(nil, `{"layers":[{"mediaType":"m","digest":"sha256:%s","size":7,"name":"n","annotations":{"org.cncf.model.filepath":"p/q"}}]}`, hash))
	if err != nil || len(layers) != 1 || layers[0] != (Layer{"m", hash, 7, "n", "p/q"}) {
		t.Errorf("%+v, %v", layers, err)
	}
	for _, raw := range []string{"", "{", "null", `{"layers":[]}`, `{"layers":[{}]}`, `{"layers":[{"digest":"sha256:../x","size":1}]}`,
		fmt.Sprintf(`{"layers":[{"digest":"sha256:%s","size":-1}]}`, hash), fmt.Sprintf(`{"layers":[{"digest":"sha512:%s","size":1}]}`, hash),
		fmt.Sprintf(`{"layers":[{"digest":"sha256:%s","size":1}]}`, strings.ToUpper(hash)),
		`{"layers":[` + strings.Repeat(`{},`, maxLayers) + `{}]}`, strings.Repeat(" ", MaxManifest) + "{}"} {
		if _, err := Parse([]byte(raw)); !model.IsKind(err, model.Invalid) {
			t.Errorf("%.60s: %v", raw, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fmt.Appendf(nil, `{"layers":[{"mediaType":"m","digest":"sha256:%s","size":7}]}`, hash))
	f.Add([]byte(`{"layers":[{"digest":1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		layers, err := Parse(raw)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Error(err)
		}
		for _, l := range layers {
			if Digest("sha256:"+l.SHA256) == "" || l.Size < 0 {
				t.Errorf("%+v", l)
			}
		}
	})
}
