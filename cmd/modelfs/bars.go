package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"modelfs/cmd/modelfs/control"
)

// A rate is how fast a file comes in since the first that was seen of it:
// what had been here before does not count.
type rate struct {
	began time.Time
	first int64
}

func (r rate) speed(done int64) int64 {
	took := time.Since(r.began).Seconds()
	if took <= 0 {
		return 0
	}
	return int64(float64(done-r.first) / took)
}

// lines shows a pull as a line per file and 10 %, for logs and pipes.
type lines struct {
	w     io.Writer
	name  string
	files map[string]*fileLine
}

type fileLine struct {
	rate
	tenth int64 // the last one shown
}

func newLines(w io.Writer, name string) *lines {
	return &lines{w: w, name: name, files: make(map[string]*fileLine)}
}

func (l *lines) show(e control.Event) {
	if e.Path == "" || e.State == control.Failed {
		return // its end says why
	}
	f := l.files[e.Path]
	if f == nil {
		f = &fileLine{rate: rate{time.Now(), e.Done}}
		l.files[e.Path] = f
	}
	if e.Total <= 0 || e.State == control.Filling && e.Done >= e.Total {
		return // Done comes when it has been verified, too
	}
	tenth := e.Done * 10 / e.Total
	if tenth <= f.tenth {
		return
	}
	f.tenth = tenth
	speed := ""
	if e.Done > f.first {
		speed = ", " + bytesOf(f.speed(e.Done)) + "/s"
	}
	fmt.Fprintf(l.w, "%s/%s: %d %% of %s%s\n", l.name, e.Path, tenth*10, bytesOf(e.Total), speed)
}

func (l *lines) close() {}

// bars shows a pull as a progress bar per file.
type bars struct {
	progress *mpb.Progress
	files    map[string]*fileBar
}

type fileBar struct {
	rate
	bar *mpb.Bar
}

// smallFile is the size below which a bar is taken away when it is full: a
// model has dozens of such files.
const smallFile = 64 << 20

// hasScreen reports whether bars can be drawn: w is a terminal, and one that
// has a size.
func hasScreen(w io.Writer) bool {
	rows, columns := screen(w)
	return rows > 0 && columns > 0
}

func newBars(w io.Writer) *bars {
	return &bars{progress: mpb.New(mpb.WithOutput(w), mpb.WithWidth(48), mpb.WithAutoRefresh()), files: make(map[string]*fileBar)}
}

func (b *bars) show(e control.Event) {
	if e.Path == "" {
		return
	}
	f := b.files[e.Path]
	switch {
	case f == nil && (e.State != control.Filling || e.Done >= e.Total && e.Total >= 0):
		return // it was here already, or never began
	case f == nil:
		f = &fileBar{rate: rate{time.Now(), e.Done}}
		f.bar = b.add(e, f.rate)
		b.files[e.Path] = f
	}
	switch e.State {
	case control.Failed:
		f.bar.Abort(false)
	case control.Done:
		f.bar.SetTotal(e.Total, false)
		f.bar.SetCurrent(e.Total)
		f.bar.SetTotal(-1, true) // the present count is the total
	case control.Filling:
		if e.Total > 0 {
			f.bar.SetTotal(e.Total, false)
		}
		f.bar.SetCurrent(e.Done)
	case control.Listed:
	}
}

func (b *bars) add(e control.Event, r rate) *mpb.Bar {
	options := []mpb.BarOption{
		mpb.PrependDecorators(decor.Name(e.Path, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string { return barText(s, r) })),
	}
	if e.Total >= 0 && e.Total < smallFile {
		options = append(options, mpb.BarRemoveOnComplete())
	}
	return b.progress.AddBar(0, options...)
}

func barText(s decor.Statistics, r rate) string {
	switch {
	case s.Aborted:
		return " stopped"
	case s.Completed:
		return " " + bytesOf(s.Current)
	case s.Total <= 0:
		return " " + bytesOf(s.Current)
	}
	speed := r.speed(s.Current)
	text := fmt.Sprintf(" %d %%  %s of %s  %s/s", s.Current*100/s.Total, bytesOf(s.Current), bytesOf(s.Total), bytesOf(speed))
	if left := s.Total - s.Current; speed > 0 && left > 0 {
		text += "  " + time.Duration(float64(left)/float64(speed)*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return text
}

func (b *bars) close() {
	for _, f := range b.files {
		if !f.bar.Completed() {
			f.bar.Abort(false)
		}
	}
	b.progress.Wait()
}

// bytesOf is a number of bytes for people; negative: unknown.
func bytesOf(n int64) string {
	if n < 0 {
		return "?"
	}
	return humanize.IBytes(uint64(n))
}
