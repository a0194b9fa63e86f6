package decision

import (
	"fmt"
	"runtime"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/policy"
)

const (
	group = "Decision (caller, method)"
	// asked is how many questions a round goes through, again and again: what a server hears in a short while.
	asked = 1000
	// askedOfCache is how many go through a cache. Each is asked once before, which takes 15 ms where there are 50,000 rules.
	askedOfCache = 200
)

// rival is an engine beside ours, and the ratio that it must reach; 0 where there is no goal.
type rival struct {
	Builder

	goals map[int]float64
	note  string
	// cached says that it is measured when it knows all answers.
	cached bool
}

var rivals = []rival{
	{Builder: Builder{"grpc-go authz", Authz}, goals: map[int]float64{10: 30, 500: 200}, note: "asked through its interceptor with a handler that does nothing; the call's context is made before"},
	{Builder: Builder{"OPA", OPA}, goals: map[int]float64{500: 200}, note: "embedded, prepared query, rules as objects in its data, kept as its own values"},
	{Builder: Builder{"cedar-go", Cedar}, goals: map[int]float64{500: 1000}, note: "a policy a method, the action in its scope, no entities"},
	{Builder: Builder{"casbin", Casbin}, goals: map[int]float64{500: 1000}, note: "an ACL, a line for each caller of a method, the method compared first"},
	{Builder: Builder{"casbin, cached", CachedCasbin}, goals: map[int]float64{10: 3, 500: 3, 50_000: 3}, note: "200 questions, each asked once before, so that every answer is in the cache", cached: true},
}

// Rows measures all engines at 10, 500 and 50,000 rules, with nine interleaved rounds, or five that are shorter if quick.
// An answer that is wrong is an error. It takes about a minute, or half of it if quick, and most of a gigabyte of memory.
func Rows(quick bool) ([]row.Row, error) {
	m := measurement{rounds: 9, turn: 60 * time.Millisecond}
	if quick {
		m = measurement{rounds: 5, turn: 25 * time.Millisecond}
	}
	var rows []row.Row
	for _, n := range []int{10, 500, 50_000} {
		more, err := m.besidePeers(n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	more, err := m.besideOurselves()
	if err != nil {
		return nil, err
	}
	return append(rows, more...), nil
}

type measurement struct {
	rounds int
	turn   time.Duration
}

// besidePeers measures each peer with ours in rounds of their own: one that takes milliseconds is not to spoil the caches of all.
func (m measurement) besidePeers(n int) ([]row.Row, error) {
	var rows []row.Row
	for _, p := range rivals {
		count := asked
		if p.cached {
			count = askedOfCache
		}
		questions := Questions(n, count)
		start := time.Now()
		theirs, err := p.Build(n)
		if err != nil {
			return nil, err
		}
		built := time.Since(start)
		if p.cached {
			for _, q := range questions {
				if theirs.Decide(q.Caller, q.Method) != q.Allowed {
					return nil, wrong(q)
				}
			}
		}
		ours, err := ourSide("grpcguard", n, questions)
		if err != nil {
			return nil, err
		}
		note := fmt.Sprintf("%s; built in %s", p.note, built.Round(time.Millisecond))
		// Where one decision takes long, a turn holds few of them: a prefix of the questions, which are in random order.
		r, err := m.row(fmt.Sprintf("%s, %s rules", p.Name, thousands(n)), p.goals[n], note, ours, side(theirs, questions))
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
		runtime.GC()
	}
	return rows, nil
}

// besideOurselves measures ours beside map look-ups, and with many rules beside few.
func (m measurement) besideOurselves() ([]row.Row, error) {
	var rows []row.Row
	few, err := ourSide("10 rules", 10, Questions(10, asked))
	if err != nil {
		return nil, err
	}
	for _, n := range []int{10, 500, 50_000} {
		questions := Questions(n, asked)
		ours, err := ourSide("grpcguard", n, questions)
		if err != nil {
			return nil, err
		}
		r, err := m.row(fmt.Sprintf("five map look-ups, %s rules", thousands(n)), 1, "a map of strings as long as the SPIFFE IDs, as many as rules; half of the look-ups hit", ours, lookUps(n, questions))
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	for _, spread := range []struct {
		questions int
		goal      float64
		note      string
	}{
		{asked, 1 / 1.2, "1,000 questions on either side, spread over all rules"},
		{100_000, 0, "every rule is asked, two questions each, so that memory is measured more than the decision"},
	} {
		many, err := ourSide("50,000 rules", 50_000, Questions(50_000, spread.questions))
		if err != nil {
			return nil, err
		}
		r, err := m.row(fmt.Sprintf("50,000 rules beside 10, %s questions", thousands(spread.questions)), spread.goal, spread.note, many, few)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (m measurement) row(name string, goal float64, note string, ours, theirs row.Side) (row.Row, error) {
	measured, err := row.Interleave(m.rounds, m.turn, ours, theirs)
	if err != nil {
		return row.Row{}, fmt.Errorf("decision: %s: %w", name, err)
	}
	return row.Row{
		Group: group, Name: name, Unit: "ns", Goal: goal, Note: note,
		Ours:   row.Figure{Name: ours.Name, Values: measured[0].CPU, Allocs: measured[0].Allocs},
		Theirs: row.Figure{Name: theirs.Name, Values: measured[1].CPU, Allocs: measured[1].Allocs},
	}, nil
}

// side asks an engine questions in turn, going on where it stopped.
func side(e *Engine, questions []Question) row.Side {
	decide := make([]func() bool, len(questions))
	for i, q := range questions {
		decide[i] = e.Prepare(q)
	}
	at := 0
	return row.Side{Name: e.Name, Run: func(n int) error {
		for range n {
			if decide[at]() != questions[at].Allowed {
				return wrong(questions[at])
			}
			if at++; at == len(questions) {
				at = 0
			}
		}
		return nil
	}}
}

// ourSide is side for ours, with subjects and methods in a list and not in functions: calling one of a thousand functions costs a
// part of what is measured, and map look-ups are not measured so either.
func ourSide(name string, rules int, questions []Question) (row.Side, error) {
	p, err := ourPolicy(rules)
	if err != nil {
		return row.Side{}, err
	}
	subjects := make([]policy.Subject, len(questions))
	for i, q := range questions {
		if subjects[i], err = subject(q.Caller); err != nil {
			return row.Side{}, err
		}
	}
	at := 0
	return row.Side{Name: name, Run: func(n int) error {
		for range n {
			q := &questions[at]
			if p.Rule(q.Method).Decide(subjects[at]).Allowed != q.Allowed {
				return wrong(*q)
			}
			if at++; at == len(questions) {
				at = 0
			}
		}
		return nil
	}}, nil
}

// lookUps looks up five keys for each question, hits where it is to be allowed: that of its caller, and of the callers of the four
// questions after it, with its own fate.
func lookUps(rules int, questions []Question) row.Side {
	known := make(map[string]int, rules)
	for i := range rules {
		known[caller(i)] = i + 1
	}
	keys := make([][5]string, len(questions))
	for i, q := range questions {
		for j := range keys[i] {
			key := questions[(i+j)%len(questions)].Caller
			if !q.Allowed {
				// As long, and not among the callers.
				key = key[:len(key)-5] + "x" + key[len(key)-4:]
			}
			keys[i][j] = key
		}
	}
	at := 0
	return row.Side{Name: "five map look-ups", Run: func(n int) error {
		for range n {
			found := 0
			for _, key := range keys[at] {
				if known[key] > 0 {
					found++
				}
			}
			if found == 5 != questions[at].Allowed {
				return wrong(questions[at])
			}
			if at++; at == len(questions) {
				at = 0
			}
		}
		return nil
	}}
}

func wrong(q Question) error {
	return fmt.Errorf("%s to %s: the answer is not %v", q.Caller, q.Method, q.Allowed)
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
