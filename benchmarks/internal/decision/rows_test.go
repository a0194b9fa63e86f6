package decision

import (
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// Every row has its rounds and answers; how fast they are is for the report to say.
func TestRows(t *testing.T) {
	t.Parallel()
	m := measurement{rounds: 1, turn: time.Millisecond}
	rows, err := m.besidePeers(10)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(Builders())-1 {
		t.Errorf("%d rows of %d engines", len(rows), len(Builders()))
	}
	for _, r := range rows {
		if len(r.Ratios()) != m.rounds || row.Median(r.Ours.Values) <= 0 || row.Median(r.Theirs.Values) <= 0 {
			t.Errorf("%+v", r)
		}
	}
}

// A cache that is measured knows all answers: a search through 500 rules makes two thousand allocations, a hit a few.
func TestACacheIsFull(t *testing.T) {
	t.Parallel()
	rows, err := measurement{rounds: 1, turn: time.Millisecond}.besidePeers(500)
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if got := row.Median(last.Theirs.Allocs); last.Theirs.Name != "casbin, cached" || got > 100 {
		t.Errorf("%s makes %.0f allocations", last.Theirs.Name, got)
	}
}

func TestOursDoesNotAllocate(t *testing.T) {
	for _, n := range []int{10, 500} {
		questions := Questions(n, 100)
		ours, err := ourSide("grpcguard", n, questions)
		if err != nil {
			t.Fatal(err)
		}
		if allocs := testing.AllocsPerRun(10, func() {
			if err := ours.Run(len(questions)); err != nil {
				t.Error(err)
			}
		}); allocs != 0 {
			t.Errorf("%d rules: %v allocations in %d decisions", n, allocs, len(questions))
		}
	}
}

// The look-ups find what the questions say, or the comparison would be with fewer or cheaper ones.
func TestLookUpsAnswerAlike(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 500} {
		questions := Questions(n, 100)
		if err := lookUps(n, questions).Run(2 * len(questions)); err != nil {
			t.Error(err)
		}
	}
}

func TestAWrongAnswerIsAnError(t *testing.T) {
	t.Parallel()
	always := &Engine{Name: "always", Prepare: func(Question) func() bool { return func() bool { return true } }}
	const want = "spiffe://bench.example/workload/00001 to /bench.decision.v1.Bench/Method00000: the answer is not false"
	err := side(always, []Question{{Caller: caller(1), Method: method(0)}}).Run(1)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
