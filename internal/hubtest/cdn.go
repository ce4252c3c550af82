package hubtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is a file as the CDN holds it.
type object struct {
	file    string // "org/repo/path", for the log
	content Content
	etag    string // not the hash of the content, as at the real CDN
}

// SetURLLife changes how long the signed URLs that are given out from now on
// are good; they state it in whole seconds, rounded up. An hour at first.
func (h *Hub) SetURLLife(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.urlLife = d
}

// ExpireURLs makes the CDN refuse every URL that was given out so far.
func (h *Hub) ExpireURLs() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secret += "0"
}

// AcceptEncodedAnew makes the CDN take a signed URL for what its query says,
// not for how it is written, from now on: the real one does, and llama.cpp
// sorts and encodes what it is redirected to.
func (h *Hub) AcceptEncodedAnew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.issued == nil {
		h.issued = make(map[string]bool)
	}
}

// meant is a query with its parts decoded and sorted. net/url would drop a part
// with a bare semicolon.
func meant(rawQuery string) string {
	parts := strings.Split(rawQuery, "&")
	for i, p := range parts {
		if decoded, err := url.QueryUnescape(p); err == nil {
			parts[i] = decoded
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// keyPair ends every signed query.
const keyPair = "&Key-Pair-Id=KHUBTEST0000"

// sign is the address of a file at the CDN, good for a while. The signature is
// over the query as it is written: who encodes it anew is refused, but see
// AcceptEncodedAnew.
func (h *Hub) sign(s *snapshot, b *blob) string {
	sum := sha256.Sum256([]byte(s.ID + "\n" + b.Path + "\n" + b.sha256()))
	o := &object{file: s.ID + "/" + b.Path, content: b.Content, etag: `"` + hex.EncodeToString(sum[:]) + `"`}
	at := "/xet-bridge-us/" + s.oid + "/" + hex.EncodeToString(sum[:])
	h.mu.Lock()
	h.objects[at] = o
	life, secret := h.urlLife, h.secret
	h.mu.Unlock()
	now := time.Now()
	expires := now.Add(life + time.Second - 1).Unix()
	query := fmt.Sprintf("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=cas%%2F%s%%2Fus-east-1%%2Fs3%%2Faws4_request&X-Amz-Date=%s&X-Amz-Expires=%d"+
		"&X-Amz-SignedHeaders=host&X-Xet-Cas-Uid=public&response-content-disposition=inline%%3B%%20filename*%%3DUTF-8%%27%%27%s&x-id=GetObject"+
		"&Expires=%d&Policy=%s",
		now.UTC().Format("20060102"), now.UTC().Format("20060102T150405Z"), expires-now.Unix(), url.PathEscape(url.PathEscape(path.Base(b.Path))),
		expires, base64.RawURLEncoding.EncodeToString([]byte(at)))
	query += "&Signature=" + signature(secret, at, query) + keyPair
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.issued != nil {
		h.issued[secret+at+"?"+meant(query)] = true
	}
	return h.CDN() + at + "?" + query
}

func signature(secret, at, query string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s?%s", at, query)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// signed reports whether the request's URL is one that sign made and is still good.
func (h *Hub) signed(u *url.URL) bool {
	h.mu.Lock()
	secret := h.secret
	good := h.issued[secret+u.Path+"?"+meant(u.RawQuery)]
	h.mu.Unlock()
	query, rest, ok := strings.Cut(u.RawQuery, "&Signature=")
	if !good && (!ok || rest != signature(secret, u.Path, query)+keyPair) {
		return false
	}
	expires, err := strconv.ParseInt(u.Query().Get("Expires"), 10, 64)
	return err == nil && time.Now().Before(time.Unix(expires, 0))
}

func (h *Hub) cdnTarget(r *http.Request) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.objects[r.URL.Path]; o != nil {
		return o.file
	}
	return ""
}

// serveCDN answers everything at the CDN's address.
func (h *Hub) serveCDN(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		h.violation("the CDN was sent an Authorization header: %s %s", r.Method, r.URL.Path)
		sendXML(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		sendXML(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
		return
	}
	if !h.signed(r.URL) {
		sendXML(w, http.StatusForbidden, "AccessDenied", "Access denied")
		return
	}
	h.mu.Lock()
	o := h.objects[r.URL.Path]
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", o.etag)
	serveRange(w, r, o.content)
}

func sendXML(w http.ResponseWriter, status int, code, message string) {
	body := `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>` + message + `</Message></Error>`
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
