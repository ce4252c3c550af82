package origin

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"modelfs/internal/model"
)

func TestCheckAddr(t *testing.T) {
	for addr, public := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.15.255.255": true, "172.32.0.1": true, "100.63.255.255": true, "100.128.0.1": true,
		"192.167.1.1": true, "169.253.1.1": true, "198.17.0.1": true, "223.255.255.255": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"::ffff:8.8.8.8": true, "64:ff9b::808:808": true, "2002:808:808::1": true,

		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "169.254.0.1": false, "100.64.0.1": false, "100.100.100.200": false, "168.63.129.16": false,
		"192.0.0.192": false, "198.18.0.1": false, "224.0.0.1": false, "239.255.255.250": false, "240.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "::7f00:1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2002:a00:1::1": false, "2001:0:1::1": false, "2001:db8::1": false,
	} {
		ip := netip.MustParseAddr(addr)
		if err := checkAddr(ip, true); err != nil {
			t.Errorf("%s, named exactly: %v", addr, err)
		}
		err := checkAddr(ip, false)
		if (err == nil) != public {
			t.Errorf("%s: error %v, want public %v", addr, err, public)
		}
		if err != nil && !model.IsKind(err, model.Denied) {
			t.Errorf("%s: error %v is not of kind denied", addr, err)
		}
	}
	if err := control("tcp", "nonsense", nil); !model.IsKind(err, model.Denied) {
		t.Errorf("an address that can't be parsed: %v", err)
	}
}

func TestCheckHostName(t *testing.T) {
	for host, ok := range map[string]bool{
		"example.com": true, "a.b.c.d1": true, "xn--e1afmkfd.xn--p1ai": true, "8.8.8.8": true, "1.1.1.1.example.com": true,
		"127.0.0.1": false, "127.1": false, "2130706433": false, "0x7f.0.0.0x1": false, "0177.0.0.1": false, "127.0.0.1.": false, "::1": false, ".": false,
	} {
		if err := checkHostName(host); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed %v", host, err, ok)
		}
	}
	for host, ok := range map[string]bool{
		"example.com": true, "8.8.8.8": true, "localhost.example.com": true,
		"localhost": false, "a.localhost": false, "metadata": false, "metadata.google.internal": false, "metadata.google.internal.": false, "nas.local": false, "r.home.arpa": false,
	} {
		if err := checkBehindProxy(host); (err == nil) != ok {
			t.Errorf("%s behind a proxy: %v, want allowed %v", host, err, ok)
		}
	}
}

// A name that a wildcard allows and that resolves to this machine is not
// dialled; the same name in a pattern of its own is.
func TestNameThatResolvesToLoopback(t *testing.T) {
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer srv.Close()
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	for pattern, want := range map[string]bool{
		"http://local*" + port + "/*":    false,
		"http://*" + port + "/*":         false,
		"http://localhost" + port + "/*": true,
		"http://localhost/*":             true,
	} {
		hits = 0
		d := openDoor(t, Config{Allow: []string{pattern}})
		_, err := d.Get(t.Context(), "http://localhost"+port+"/x", GetOptions{})
		if want && (err != nil || hits != 1) {
			t.Errorf("%s: %v", pattern, err)
		}
		if !want && (!model.IsKind(err, model.Denied) || hits != 0 || !strings.Contains(err.Error(), "localhost")) {
			t.Errorf("%s: %d requests, error %v", pattern, hits, err)
		}
		d.Close()
	}
}

// A redirect from an allowed host to a loopback address is followed only if a
// pattern names that address.
func TestRedirectToLoopback(t *testing.T) {
	hits := 0
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer inner.Close()
	outer := httptest.NewServer(http.RedirectHandler(inner.URL+"/metadata", http.StatusFound))
	defer outer.Close()
	port := inner.URL[strings.LastIndexByte(inner.URL, ':'):]
	for pattern, want := range map[string]bool{"http://*" + port + "/*": false, "http://127.0.0.1" + port + "/*": true, "": false} {
		hits = 0
		d := openDoor(t, Config{Allow: []string{pattern}, Endpoints: []string{outer.URL}})
		_, err := d.Get(t.Context(), outer.URL+"/x", GetOptions{})
		if (err == nil) != want || want != (hits == 1) || !want && !model.IsKind(err, model.Denied) {
			t.Errorf("%q: %d requests, error %v, want allowed %v", pattern, hits, err, want)
		}
		d.Close()
	}
}
