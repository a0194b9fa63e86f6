package entry

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// First returns the index of the first record that the journal in dir still has. It is in the name of the first segment.
func First(dir string) (uint64, error) {
	files, err := os.ReadDir(filepath.Join(dir, "segments"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, ok := strings.CutSuffix(f.Name(), ".seg")
		if first, err := strconv.ParseUint(text, 10, 63); ok && err == nil {
			return first, nil
		}
	}
	return 0, fmt.Errorf("%s has no segments", dir)
}

// Read iterates over the records from index from on and below index to that are not deleted. Where the journal deletes old segments
// meanwhile, it goes on with the first record that is left.
func Read(dir string, from, to uint64) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		next := from
		for {
			first, err := First(dir)
			if err != nil {
				yield(journal.Record{}, err)
				return
			}
			next = max(next, first)
			if next >= to {
				return
			}
			for r, failed := range journal.Records(dir, next, to) {
				if err = failed; err != nil {
					break
				}
				if !yield(r, nil) {
					return
				}
				next = r.Index + 1
			}
			if err == nil {
				return
			}
			if now, again := First(dir); again != nil || now <= next {
				yield(journal.Record{}, err)
				return
			}
		}
	}
}
