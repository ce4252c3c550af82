package origin

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"modelfs/internal/model"
)

// Who sits between modelfs and a server over https is refused before anything
// is asked, and can't be led to by a redirect to http: the token and the
// names that are asked for stay unsaid.
func TestAManInTheMiddle(t *testing.T) {
	var said []string
	middle := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		said = append(said, r.URL.Path+" "+r.Header.Get("Authorization"))
	})
	forged := httptest.NewUnstartedServer(middle)
	forged.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	forged.StartTLS()
	defer forged.Close()
	d := openDoor(t, Config{Endpoints: []string{forged.URL}, Credentials: tokenFor(forged.URL)})
	_, err := d.Get(t.Context(), forged.URL+"/api/models/secret", GetOptions{})
	wantKind(t, err, model.Unavailable)
	if !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), token) {
		t.Errorf("%v", err)
	}
	_, err = d.Object(forged.URL+"/secret/resolve/main/x", Want{Size: -1}).Resolve(t.Context())
	wantKind(t, err, model.Unavailable)

	plain := httptest.NewServer(middle)
	defer plain.Close()
	honest := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/stripped", http.StatusFound))
	defer honest.Close()
	u, err := url.Parse(plain.URL)
	if err != nil {
		t.Fatal(err)
	}
	d = openDoor(t, Config{Endpoints: []string{honest.URL}, Allow: []string{"https://" + u.Host + "/*"}, CAFile: caOf(t, honest), Credentials: tokenFor(honest.URL)})
	_, err = d.Get(t.Context(), honest.URL+"/x", GetOptions{})
	wantKind(t, err, model.Denied)
	if len(said) > 0 {
		t.Errorf("the middle was told %q", said)
	}
}
