// Package entry reads what lies at one index of a journal.
package entry

import (
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// The types of entries that are no audit records.
const (
	// Journal is a record that the journal wrote itself, of a deletion.
	Journal audit.Type = "journal"
	// Foreign is anything else: a journal keeps bytes, whatever they say.
	Foreign audit.Type = "foreign"
)

// Entry is what lies at one index. Of Record and Pruned the one is set that Type says.
type Entry struct {
	Index  uint64
	Type   audit.Type
	Record audit.Record
	Pruned journal.Pruned
	// Data is what lies in the journal. It is valid as long as the journal.Record was.
	Data []byte
}

// Decode reads a journal's record.
func Decode(r journal.Record) Entry {
	e := Entry{Index: r.Index, Type: Foreign, Data: r.Data}
	if p, ok := journal.ParsePruned(r.Data); ok {
		e.Type, e.Pruned = Journal, p
		return e
	}
	// A record without a type is nothing that a guard writes, and nothing would be lost sight of that is shown as bytes.
	if record, err := audit.ParseRecord(r.Data); err == nil && record.Type != "" {
		e.Type, e.Record = record.Type, record
	}
	return e
}

// Head returns what Decode says of a record's type, for less, and the ID if it is an audit record. It believes the rest of the record.
func Head(r journal.Record) (audit.ID, audit.Type) {
	id, t, err := audit.ParseHead(r.Data)
	if err == nil && t != "" {
		return id, t
	}
	if _, ok := journal.ParsePruned(r.Data); ok {
		return audit.ID{}, Journal
	}
	return audit.ID{}, Foreign
}

// Time returns when what the entry tells of happened, or the zero time where nothing says so.
func (e *Entry) Time() time.Time {
	if e.Type == Journal {
		return e.Pruned.At
	}
	return e.Record.Time
}

// IsRecord reports whether the entry is an audit record.
func (e *Entry) IsRecord() bool { return e.Type != Journal && e.Type != Foreign }
