package fetcher

import "time"

// The bounds of what is fetched in the background.
const (
	firstLanes = 4
	leastLanes = 1
	mostLanes  = 8
	leastRange = 1 << 20
	mostRange  = 32 << 20
	rangeTime  = 500 * time.Millisecond
	rampTime   = 250 * time.Millisecond // how long one number of connections is watched
	rampHold   = 3 * time.Second        // before another number is tried again
	// rampWorth is the part of what more connections promise that they have to
	// bring: an eighth more for twice as many. Less is noise. More would leave
	// half of a network unused whenever the machine was busy for a moment.
	rampWorth = 0.125
)

// pace is what the fill has seen of its origin. Both numbers are moving
// averages, and begin with a guess that the first answers correct.
type pace struct {
	ttfb time.Duration // from a request to its first byte
	conn float64       // bytes a second of one connection, once bytes flow
	seen bool
	// steady is set once several transfers were measured, so that conn is no guess.
	steady bool
	flows  int
}

func newPace() pace { return pace{ttfb: 100 * time.Millisecond, conn: 16 << 20} }

func (p *pace) first(d time.Duration) {
	if !p.seen {
		p.ttfb, p.seen = d, true
		return
	}
	p.ttfb += (d - p.ttfb) / 4
}

func (p *pace) flowed(bytes int64, d time.Duration) {
	if d < time.Millisecond || bytes < blockSize {
		return
	}
	p.conn += (float64(bytes)/d.Seconds() - p.conn) / 4
	p.flows++
	p.steady = p.flows >= 4
}

// cost is how long a new request for n bytes takes until they are all here.
func (p *pace) cost(n int64) time.Duration {
	return p.ttfb + seconds(float64(n)/p.conn)
}

// rangeSize is the length of a background range when left bytes are not yet
// asked for and lanes connections share them: rangeTime long, shorter towards
// the end so that the connections finish together, but not shorter than the
// wait for the answer, which the next request overlaps (nearEnd).
func (p *pace) rangeSize(left int64, lanes int) int64 {
	n := int64(p.conn * rangeTime.Seconds())
	worth := min(int64(p.conn*p.ttfb.Seconds()), 8<<20)
	n = min(n, max(worth, left/int64(2*lanes)))
	n = min(max(n, leastRange), mostRange)
	return n / blockSize * blockSize
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// A ramp finds how many connections a fill is worth: it adds some while that
// makes the fill faster, and takes them back when it did not.
type ramp struct {
	target int
	step   int     // what was added last; 0 when nothing is being tried
	before float64 // bytes a second before that
	since  time.Time
	bytes  int64
	hold   time.Time
}

func newRamp() ramp { return ramp{target: firstLanes} }

// restart begins a new observation, because the last one saw a fill that did
// not use its connections.
func (r *ramp) restart(now time.Time, bytes int64) {
	r.since, r.bytes = now, bytes
}

// observe is told the bytes that the fill has fetched so far, while all of its
// lanes are at work, and moves the target.
func (r *ramp) observe(now time.Time, bytes int64) {
	d := now.Sub(r.since)
	if r.since.IsZero() || d < rampTime {
		if r.since.IsZero() {
			r.restart(now, bytes)
		}
		return
	}
	speed := float64(bytes-r.bytes) / d.Seconds()
	r.restart(now, bytes)
	switch {
	case r.step > 0 && speed < r.before*(1+rampWorth*float64(r.step)/float64(r.target-r.step)):
		r.target -= r.step
		r.step = 0
		r.hold = now.Add(rampHold)
	case speed > 0 && r.target < mostLanes && !now.Before(r.hold): // more of nothing is nothing
		r.step = min(r.target, mostLanes-r.target)
		r.target += r.step
		r.before = speed
	default:
		r.step = 0
	}
}

// setback halves the target: the origin refused.
func (r *ramp) setback(now time.Time) {
	r.target = max(leastLanes, r.target/2)
	r.step = 0
	r.hold = now.Add(rampHold)
}
