package journal

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
)

// Record is a record as it was added.
type Record struct {
	// Index is its place in the journal, from 0.
	Index uint64
	// Data is valid until the iteration goes on.
	Data []byte
}

// stopError ends a scan early.
type stopError struct{}

func (stopError) Error() string { return "stop" }

// Records iterates over the records in dir from index from on and below index to. The journal may be open elsewhere; to must then
// not be above the size of a checkpoint of it. Each record's checksum is compared, and nothing else; the last element is an error if
// a record cannot be read.
func Records(dir string, from, to uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := scan(dir, from, to, func(h block, body []byte) error {
			for index := h.first; len(body) > 0 && index < to; index++ {
				var leaf []byte
				leaf, body = nextLeaf(body)
				if index >= from && !yield(Record{index, leaf[1:]}, nil) {
					return stopError{}
				}
			}
			return nil
		})
		if _, stopped := err.(stopError); err != nil && !stopped { //nolint:errorlint // never wrapped
			yield(Record{}, err)
		}
	}
}

// Records iterates over the records from index from on that are durable when it begins.
func (j *Journal) Records(from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		Records(j.dir, from, j.Size())(yield)
	}
}

// EntryBundle returns entry bundle n, of width records, as tlog-tiles has them under tile/entries. Bundles are not kept on disk, where
// they would hold every record a second time; who serves a journal to others' tools makes them when asked.
func EntryBundle(dir string, n uint64, width int) ([]byte, error) {
	var bundle []byte
	if n > math.MaxInt64/tileWidth {
		return nil, fmt.Errorf("journal: there is no entry bundle %d", n)
	}
	from := n * tileWidth
	for r, err := range Records(dir, from, from+uint64(min(max(width, 0), tileWidth))) {
		if err != nil {
			return nil, err
		}
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(r.Data)))
		bundle = append(bundle, r.Data...)
	}
	return bundle, nil
}
