package scale

import (
	"fmt"
	"runtime"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/policy"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// variant is a way to write the rules of an API.
type variant struct {
	name            string
	method, service func() *grpcguardv1.Rule
}

var (
	// The two ways that the goal is for: a rule at each service, which its methods share, and a rule at each method.
	rulesOfServices = variant{name: "a rule at each service of ten methods", service: byName}
	rulesOfMethods  = variant{name: "a rule at each method", method: byName}
	limitsOfMethods = variant{name: "a rule with a rate limit at each method", method: limited}
)

// methodCost is what an API of some size costs: bytes a method beyond the descriptors, and the time that it took to get there.
type methodCost struct {
	policy, guard   float64 // bytes a method
	compile, start  time.Duration
	compiled        *policy.Policy
	interceptorsOf  *interceptors.Server
	descriptorsKept []protoreflect.FileDescriptor
}

func (c *methodCost) bytes() float64 { return c.policy + c.guard }

// ofMethods measures the policy and the guard of an API with n methods. What it made stays alive with the result.
func (w *world) ofMethods(n int, v variant) (*methodCost, error) {
	files, err := api{methods: n, rule: v.method, ofService: v.service}.descriptors()
	if err != nil {
		return nil, err
	}
	// What is lazy in the descriptors is read by all who use them, and is not the policy's.
	touch(files)
	c := &methodCost{descriptorsKept: files}
	var bytes float64
	c.compiled, bytes, err = heldBy(func() (*policy.Policy, error) {
		began := time.Now()
		defer func() { c.compile = time.Since(began) }()
		return policy.Compile(w.file, files...)
	})
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	c.policy = bytes / float64(n)
	c.interceptorsOf, bytes, err = heldBy(func() (*interceptors.Server, error) {
		began := time.Now()
		defer func() { c.start = time.Since(began) }()
		return w.guard(c.compiled)
	})
	if err != nil {
		return nil, err
	}
	c.guard = bytes / float64(n)
	runtime.KeepAlive(files)
	return c, nil
}

// touch reads what descriptors make when they are first asked.
func touch(files []protoreflect.FileDescriptor) {
	for _, f := range files {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			s.Methods().ByName("")
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				m.Input().Fields().ByName("")
				m.Output().Fields().ByName("")
			}
		}
	}
}

// hot is how many methods or callers are asked for in turn: few enough that the processor's caches do not decide the result.
const hot = 64

// decide returns work that finds the rules of methods, as a call does, and asks whether subjects may call, one after the other.
func decide(p *policy.Policy, methods []string, subjects []policy.Subject) func(n int) error {
	return func(n int) error {
		m, s := 0, 0
		for range n {
			if d := p.Rule(methods[m]).Decide(subjects[s]); !d.Allowed {
				return fmt.Errorf("scale: %s may not call %s: %s", subjects[s].ID, methods[m], d.Reason)
			}
			if m++; m == len(methods) {
				m = 0
			}
			if s++; s == len(subjects) {
				s = 0
			}
		}
		return nil
	}
}

// methodsOf returns the full names of some methods of an API of n, in random order.
func methodsOf(n, most int) []string {
	names := make([]string, 0, most)
	for _, i := range some(most, n) {
		names = append(names, method(i))
	}
	return names
}
