package origin

import (
	"net/http"

	"modelfs/internal/model"
)

// judge checks an answer's headers against what was asked and what is known,
// and sets where the answer ends.
func (s *stream) judge(loc *location, t trail) error {
	switch status := t.resp.StatusCode; {
	case status == http.StatusPartialContent && s.ranged:
		return s.judgePart(loc, t)
	case status == http.StatusOK:
		return s.judgeWhole(loc, t)
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusGone:
		return &refusedError{loc, statusError(t.url, t.resp)}
	}
	return statusError(t.url, t.resp)
}

// judgePart checks a 206. It may be shorter than asked; the rest is asked for
// when it is over.
func (s *stream) judgePart(loc *location, t trail) error {
	if err := plain(t.url, t.resp); err != nil {
		return err
	}
	start, end, total, ok := ParseContentRange(t.resp.Header.Get("Content-Range"))
	if !ok || start != s.off || end >= s.end {
		return model.Errorf(model.Unavailable, "%s: asked for bytes %d to %d, the answer is of %.60q",
			redact(t.url), s.off, s.end-1, t.resp.Header.Get("Content-Range"))
	}
	if cl := t.resp.ContentLength; cl >= 0 && cl != end-start+1 {
		return model.Errorf(model.Unavailable, "%s: the answer has %d bytes for %d to %d", redact(t.url), cl, start, end)
	}
	if err := s.learn(loc, t, total); err != nil {
		return err
	}
	if total >= 0 && total < s.end {
		return s.outside(loc, total)
	}
	s.stop = end + 1
	return nil
}

// judgeWhole checks a 200, whether it was asked for or not. What was asked
// from the first byte on is good; the rest of the file is not read.
func (s *stream) judgeWhole(loc *location, t trail) error {
	if err := s.o.isFile(t.url, t.resp, t.resp.ContentLength, s.o.sizeAt(loc)); err != nil {
		return err // before anything is learnt from it
	}
	if s.ranged && (s.off > 0 || s.end != s.o.sizeAt(loc)) {
		s.o.setNoRanges()
	}
	if s.off > 0 {
		return noRanges(s.o)
	}
	if err := plain(t.url, t.resp); err != nil {
		return err
	}
	length := t.resp.ContentLength
	if err := s.learn(loc, t, length); err != nil {
		return err
	}
	size := s.o.sizeAt(loc)
	switch {
	case s.ranged && size >= 0 && size < s.end:
		return s.outside(loc, size)
	case !s.ranged && size >= 0:
		s.end = size
	}
	s.stop, s.chunks = s.end, length < 0
	return nil
}

// learn takes in the total size and the strong ETag of an answer that came from
// loc's own URL. Where that redirected once more, each answer may have another.
func (s *stream) learn(loc *location, t trail, total int64) error {
	tag := ""
	if t.url == loc.url {
		tag = strong(t.resp.Header.Get("ETag"))
		if tag == "" && loc.ownWord && s.o.want.Validator != "" {
			return unvalidated(t.url)
		}
	}
	return s.o.learn(loc, total, tag)
}

func (s *stream) outside(loc *location, size int64) error {
	return model.Errorf(model.Invalid, "%s: bytes up to %d of a file of %d", redact(loc.url), s.end, size)
}

// learnEnd records the size of a file that nobody had stated.
func (o *Object) learnEnd(size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first != nil && o.first.Size >= 0 && o.first.Size != size {
		return changed(o.url)
	}
	if o.first != nil {
		o.first.Size = size
	}
	if o.cur != nil && o.cur.info.Size < 0 {
		o.cur.info.Size = size
	}
	return nil
}
