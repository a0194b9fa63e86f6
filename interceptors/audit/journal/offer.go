package journal

import "fmt"

// Offer is like Begin, and never waits: when as much waits for the disk as the journal holds in memory, the error is ErrBehind, and the
// record was not taken. Who does not wait for the Pending learns from Options.Lost how many records a failed commit had.
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
	return j.add(record), nil
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
