package journal

import (
	"fmt"
	"time"
)

// gathers is how long records of Offer wait for others to share their commit: nobody waits for them, and a commit costs the same for one
// record as for hundreds.
const gathers = 10 * time.Millisecond

// Offer is like Begin, and never waits: when as much waits for the disk as the journal holds in memory, the error is ErrBehind, and the
// record was not taken. The record is durable with the next that somebody waits for, or ten milliseconds later, apart from what the disk takes.
// Who does not wait for the Pending learns from Options.Lost how many records a failed commit had.
func (j *Journal) Offer(record []byte) (Pending, error) {
	if isOwn(record) {
		return Pending{}, ErrReserved
	}
	if len(record) > MaxRecord {
		return Pending{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(record))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refusal(); err != nil {
		return Pending{}, err
	}
	if !j.fits(record) {
		return Pending{}, ErrBehind
	}
	j.fill.offered++
	p := j.add(record)
	switch b := j.fill; {
	case j.ripe():
		notify(j.wake)
	case b.count == 1:
		j.gather.Reset(gathers)
	}
	return p, nil
}

// ripen has what was offered committed, when it has waited long enough.
func (j *Journal) ripen() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fill.count > 0 {
		j.fill.due = true
		notify(j.wake)
	}
}

// ripe reports whether the batch that is filled should be committed now: somebody waits for it, it has waited long enough, or it is so large
// that the next record might find no room. It is called under mu.
func (j *Journal) ripe() bool {
	b := j.fill
	return b.count > b.offered || b.due || len(b.buf) > min(j.opts.BatchBytes/2, j.opts.BatchBytes-frameSize-MaxRecord)
}

// Ready returns nil if a record would be taken, or why none would: ErrFailed, ErrClosed or ErrFull. It says nothing of whether there
// is room in memory. While all is well it costs one atomic load, so that it can be asked before every call.
func (j *Journal) Ready() error {
	if j.refusing.Load() == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refusal()
}

// Dir returns the journal's folder.
func (j *Journal) Dir() string { return j.dir }
