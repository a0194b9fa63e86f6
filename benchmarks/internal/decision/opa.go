package decision

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// The rules are data, objects in an object, which is how OPA's documentation wants large sets: found by key, not searched. The module
// is in the linear fragment.
const opaModule = `package bench

default allow := false

allow if data.callers[input.method][input.caller]
`

// OPA is an embedded Open Policy Agent with a prepared query. Its data is kept as its own values, so that reading converts
// nothing, and its input is made as such a value too, which is faster than handing over a map.
func OPA(n int) (*Engine, error) {
	callers := make(map[string]any, n)
	for _, r := range rulesOf(n) {
		set := make(map[string]any, len(r.callers))
		for _, c := range r.callers {
			set[c] = true
		}
		callers[r.method] = set
	}
	ctx := context.Background()
	query, err := rego.New(
		rego.Query("data.bench.allow"),
		rego.Module("bench.rego", opaModule),
		rego.Store(inmem.NewFromObjectWithOpts(map[string]any{"callers": callers}, inmem.OptReturnASTValuesOnRead(true), inmem.OptRoundTripOnWrite(false))),
		rego.StoreReadAST(true),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("decision: OPA: %w", err)
	}
	methodKey, callerKey := ast.StringTerm("method"), ast.StringTerm("caller")
	return &Engine{Name: "OPA", Prepare: func(q Question) func() bool {
		return func() bool {
			input := ast.NewObject([2]*ast.Term{methodKey, ast.StringTerm(q.Method)}, [2]*ast.Term{callerKey, ast.StringTerm(q.Caller)})
			results, err := query.Eval(ctx, rego.EvalParsedInput(input))
			return err == nil && results.Allowed()
		}
	}}, nil
}
