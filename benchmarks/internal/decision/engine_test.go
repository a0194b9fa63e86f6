package decision

import (
	"fmt"
	"testing"
)

// All engines have the same rules, and a row compares two that answer alike.
func TestEnginesAnswerAlike(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rules, questions int }{{10, 40}, {500, 1000}, {50_000, 20}} {
		if tt.rules > 500 && testing.Short() {
			continue
		}
		for _, b := range Builders() {
			t.Run(fmt.Sprintf("%s, %d rules", b.Name, tt.rules), func(t *testing.T) {
				t.Parallel()
				e, err := b.Build(tt.rules)
				if err != nil {
					t.Fatal(err)
				}
				if e.Name != b.Name {
					t.Errorf("%q is named %q", b.Name, e.Name)
				}
				for _, q := range Questions(tt.rules, tt.questions) {
					// Twice, since a cache answers the second time.
					for range 2 {
						if e.Decide(q.Caller, q.Method) != q.Allowed {
							t.Errorf("%s to %s: want %v", q.Caller, q.Method, q.Allowed)
						}
					}
				}
				for _, q := range []Question{
					{Caller: caller(0), Method: "/" + service + "/Unknown"}, {Caller: "spiffe://bench.example/stranger", Method: method(0)},
					{Caller: caller(0) + "0", Method: method(0)}, {Caller: "spiffe://evil.example/workload/00000", Method: method(0)},
				} {
					if e.Decide(q.Caller, q.Method) {
						t.Errorf("%s to %s: allowed", q.Caller, q.Method)
					}
				}
			})
		}
	}
}

// Half of the questions are to be denied, and no rule is asked much more often than another.
func TestQuestionsAreSpread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rules, questions, asked, most int }{{10, 1000, 10, 100}, {500, 1000, 500, 2}, {50_000, 1000, 500, 2}, {50_000, 100_000, 50_000, 2}} {
		allowed, of := 0, make(map[string]int)
		for _, q := range Questions(tt.rules, tt.questions) {
			if q.Allowed {
				allowed++
			}
			of[q.Method]++
		}
		most := 0
		for _, n := range of {
			most = max(most, n)
		}
		if allowed != tt.questions/2 || len(of) != tt.asked || most != tt.most {
			t.Errorf("%d questions to %d rules: %d allowed, %d rules asked, one %d times", tt.questions, tt.rules, allowed, len(of), most)
		}
	}
}

func BenchmarkEngines(b *testing.B) {
	for _, n := range []int{10, 500, 50_000} {
		for _, builder := range Builders() {
			b.Run(fmt.Sprintf("%s/%d", builder.Name, n), func(b *testing.B) {
				e, err := builder.Build(n)
				if err != nil {
					b.Fatal(err)
				}
				questions := Questions(n, 1000)
				asked := make([]func() bool, len(questions))
				for i, q := range questions {
					asked[i] = e.Prepare(q)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if at := i % len(asked); asked[at]() != questions[at].Allowed {
						b.Fatal("a wrong answer")
					}
				}
			})
		}
	}
}
