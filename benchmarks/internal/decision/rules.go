package decision

import (
	"fmt"
	"math/rand/v2"
)

// rule is one method and the callers who may call it.
type rule struct {
	method  string
	callers []string
}

const service = "bench.decision.v1.Bench"

func methodName(i int) string { return fmt.Sprintf("Method%05d", i) }
func method(i int) string     { return "/" + service + "/" + methodName(i) }
func caller(i int) string     { return fmt.Sprintf("spiffe://bench.example/workload/%05d", i) }

// rulesOf returns n rules. Each lets in two callers, and each caller may call two methods: as many callers as methods, so that who
// calls says no less than what is called.
func rulesOf(n int) []rule {
	rules := make([]rule, n)
	for i := range rules {
		rules[i] = rule{method(i), []string{caller(i), caller((i + 1) % n)}}
	}
	return rules
}

// Question is what an engine is asked: may this caller call this method?
type Question struct {
	// Caller is a SPIFFE ID, and Method a full method.
	Caller, Method string
	// Allowed is the right answer.
	Allowed bool
}

// Questions returns count questions to n rules, n being 10 or more, in an order that looks random and is the same in every run. They
// are spread evenly over the rules. Every other one is to be denied, and names a caller whom other rules allow: no engine can do with
// knowing who is a caller at all.
func Questions(n, count int) []Question {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	questions := make([]Question, count)
	for i := range questions {
		// The rules that are asked stand evenly apart, whether there are more of them than questions or fewer.
		at := i / 2 % n
		if pairs := count / 2; pairs < n {
			at = i / 2 * n / pairs
		}
		q := Question{Method: method(at), Allowed: i%2 == 0}
		if q.Allowed {
			q.Caller = caller((at + random.IntN(2)) % n)
		} else {
			q.Caller = caller((at + 2 + random.IntN(n-2)) % n)
		}
		questions[i] = q
	}
	random.Shuffle(count, func(i, j int) { questions[i], questions[j] = questions[j], questions[i] })
	return questions
}
