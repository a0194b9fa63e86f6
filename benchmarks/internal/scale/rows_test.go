package scale

import (
	"os"
	"testing"
)

func TestPrint(t *testing.T) {
	mode := os.Getenv("SCALE")
	if mode == "" {
		t.Skip("SCALE says no mode: quick or full")
	}
	rows, curves, err := Measure(mode == "quick")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		t.Logf("%s\n  ours %.1f theirs %.1f ratios %.2f\n  %s", r.Name, r.Ours.Values, r.Theirs.Values, r.Ratios(), r.Note)
	}
	for _, c := range curves {
		t.Log(c.Name, c.Unit, c.Points)
	}
}
