package journal

import (
	"errors"
	"fmt"
)

// What callers can act on. Errors carry more; compare with errors.Is.
var (
	// ErrClosed says that the journal was closed by its owner. The record was not taken.
	ErrClosed = errors.New("journal: closed")
	// ErrFailed says that the journal closed itself: a write or an fsync failed, or its files were tampered with. It stays closed.
	ErrFailed = errors.New("journal: closed itself after a failure")
	// ErrFull says that the disk has no room. The record was not kept; the journal takes records again when there is room.
	ErrFull = errors.New("journal: no room on the disk")
	// ErrBehind says that as much waits for the disk as may. The record was not taken.
	ErrBehind = errors.New("journal: the disk is behind, and the record was not taken")
	// ErrUndecided says that nobody knows whether the record is or will be durable: the caller stopped waiting, or the failure was its own
	// commit's. An error of Append without it means that the record is not in the journal and will not be.
	ErrUndecided = errors.New("journal: the record may or may not become durable")
	// ErrLocked says that another process, or this one, has the journal open.
	ErrLocked = errors.New("journal: already open")
	// ErrTampered says that files were removed, replaced, truncated or rolled back.
	ErrTampered = errors.New("journal: the files are not those that the journal wrote")
	// ErrNoJournal says that the folder holds no journal, and that none was to be created.
	ErrNoJournal = errors.New("journal: there is none")
	// ErrTooLarge says that a record is larger than MaxRecord.
	ErrTooLarge = errors.New("journal: the record is too large")
	// ErrReserved says that a record begins like those that the journal writes itself.
	ErrReserved = errors.New("journal: the record begins like a record of the journal's own")
)

// CorruptError says where a journal is not what it was. It is an ErrTampered, since nothing can tell decay from intent.
type CorruptError struct {
	// File is the path of the file, and Offset where in it.
	File   string
	Offset int64
	// Record is the index of the record that cannot be read, or of the first one that cannot.
	Record uint64
	// Reason says what is wrong.
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: %s: offset %d, record %d: %s", e.File, e.Offset, e.Record, e.Reason)
}

// Is makes a CorruptError an ErrTampered.
func (e *CorruptError) Is(target error) bool { return target == ErrTampered }

func tampered(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTampered, fmt.Sprintf(format, args...))
}
