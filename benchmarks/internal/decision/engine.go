package decision

// Engine decides by the rules that it was built with.
type Engine struct {
	// Name is the report's.
	Name string
	// Prepare returns a function that decides a question, true being allowed. What a server has at hand anyway when a call comes, such
	// as a parsed SPIFFE ID or the call's context, is made in Prepare; all that an engine needs of its own, such as its form
	// of a request, is made each time the function is called. An engine that fails denies.
	Prepare func(Question) func() bool
}

// Decide decides whether a caller, a SPIFFE ID, may call a full method.
func (e *Engine) Decide(caller, method string) bool {
	return e.Prepare(Question{Caller: caller, Method: method})()
}

// Builder makes an engine of n rules, n being 10 or more.
type Builder struct {
	Name  string
	Build func(n int) (*Engine, error)
}

// Builders returns all engines, grpcguard first.
func Builders() []Builder {
	return []Builder{
		{"grpcguard", Ours},
		{"grpc-go authz", Authz},
		{"OPA", OPA},
		{"cedar-go", Cedar},
		{"casbin", Casbin},
		{"casbin, cached", CachedCasbin},
	}
}
