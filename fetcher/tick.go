package fetcher

import "time"

// tick measures speeds and has everything looked at again from time to time.
func (l *fill) tick(now time.Time) {
	l.mu.Lock()
	l.serial = l.oneStream(now)
	l.lanesOff = l.serial || l.storeOff(now)
	var dead []*transfer
	if now.Sub(l.swept) >= sweepTime {
		l.swept = now
		l.sweep()
		dead = l.rescue(now)
	}
	l.measure(now)
	tenths, speed := l.newTenths(), l.speed
	l.mu.Unlock()
	if l.f.slots.crowded() {
		dead = append(dead, l.yield(now)...)
	}
	cancel(dead)
	if tenths > 0 {
		l.log.Info("downloading", "percent", tenths*10, "bytes", l.Size(), "bytes_per_second", int64(speed))
	}
}

// climb moves the number of lanes. Only a time in which all of them were at
// work says anything about it.
func (l *fill) climb(now time.Time) {
	if l.observe(now) {
		l.poke() // or what they bring would be judged before they begin
	}
}

// observe has the ramp look at the lanes, and reports whether there are to be
// more now.
func (l *fill) observe(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lanes() < l.ramp.target {
		l.ramp.restart(now, l.fetched)
		return false
	}
	before := l.ramp.target
	l.ramp.observe(now, l.fetched)
	return l.ramp.target > before
}

func (l *fill) measure(now time.Time) {
	d := now.Sub(l.ticked)
	if d < rampTime {
		return
	}
	speed := float64(l.fetched-l.tickBytes) / d.Seconds()
	if d > 4*rampTime {
		l.speed = speed
	} else {
		l.speed += (speed - l.speed) / 4
	}
	l.ticked, l.tickBytes = now, l.fetched
}

// yield gives up the blocked reader's request that has been silent longest:
// another fill waits for a slot.
func (l *fill) yield(now time.Time) []*transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var silent *transfer
	for _, t := range l.transfers {
		patience := silentTime
		if t.class == whole {
			patience *= 10 // it would begin anew
		}
		if t.class.lane() || t.dropped || t.idle(now) < patience {
			continue
		}
		if silent == nil || t.idle(now) > silent.idle(now) {
			silent = t
		}
	}
	if silent == nil {
		return nil
	}
	silent.dropped = true
	return []*transfer{silent}
}
