package main

import (
	"testing"
	"time"
)

func TestTheRecordIsARealOne(t *testing.T) {
	t.Parallel()
	if n := len(encoded); n < 500 || n > 600 {
		t.Errorf("the record has %d bytes", n)
	}
}

// Every row has a figure for each round, whatever the disk is.
func TestRowsOfRecords(t *testing.T) {
	t.Parallel()
	b := bench{rounds: 1, calls: 64, callers: 64, turn: 20 * time.Millisecond, verified: 1000}
	for name, rows := range map[string]func(*disk) ([]kept, error){
		"one caller": b.oneCaller, "many callers": b.manyCallers, "transfers": b.transfers, "verify": b.verify,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := rows(&disk{dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range list {
				if len(row.ours) != 1 || len(row.theirs) != 1 || len(row.ratios) != 1 || row.ratios[0] <= 0 {
					t.Errorf("%s: %v beside %v is %v", row.what, row.ours, row.theirs, row.ratios)
				}
			}
		})
	}
}
