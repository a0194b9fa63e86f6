// Package fault injects faults into calls, for tests that show what a service does when another is slow, fails, or goes away in
// the middle of a stream.
//
// There is no switch for it but code: no flag, no variable of the environment, no metadata. A program without an [Injector]
// cannot be made to fail by it, and a caller never can.
package fault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// Fault is what goes wrong, with which calls. It waits for Delay, then, unless Code is OK, ends the call with Code, at once or
// after some messages.
type Fault struct {
	// Method is the full method, such as /bank.v1.Ledger/Transfer. Empty: any.
	Method string
	// Caller is who calls, on a server the caller's SPIFFE ID, on a client the name of the callee. Empty: any.
	Caller string
	// Share is the share of the calls that it happens to: more than 0, and 1 for all. There is no default: how much is to
	// break must be said.
	Share float64
	// Delay is how long the call is held up before anything else happens. 0: not at all.
	Delay time.Duration
	// Code is what the call is ended with. OK: it is not, the fault is the delay.
	Code codes.Code
	// AfterMessages is how many messages pass, both ways together, before the call is ended with Code. 0: it is ended before the
	// first.
	AfterMessages uint64
}

// Validate says what is wrong with f, nil if nothing is.
func (f Fault) Validate() error {
	if field, problem := f.problem(); field != "" {
		return fmt.Errorf("fault: %s: %s", field, problem)
	}
	return nil
}

func (f Fault) problem() (field, problem string) {
	switch {
	case f.Method != "" && !isFullMethod(f.Method):
		return "Method", fmt.Sprintf("%q is not a full method, such as /bank.v1.Ledger/Transfer", f.Method)
	case f.Share == 0:
		return "Share", "0 happens to no call; say 1 for all calls"
	case f.Share < 0, f.Share > 1, math.IsNaN(f.Share):
		return "Share", fmt.Sprintf("%v is not between 0 and 1", f.Share)
	case f.Delay < 0:
		return "Delay", fmt.Sprintf("%v is negative", f.Delay)
	case f.Code > codes.Unauthenticated:
		return "Code", fmt.Sprintf("there is no code %d", uint32(f.Code))
	case f.Code == codes.OK && f.AfterMessages > 0:
		return "Code", "a call that is ended after some messages needs a code other than OK"
	case f.Code == codes.OK && f.Delay == 0:
		return "Code", "OK without a delay is no fault"
	}
	return "", ""
}

func isFullMethod(s string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	return strings.HasPrefix(s, "/") && ok && service != "" && method != "" && !strings.Contains(method, "/")
}

// Wait waits for the delay of f. If ctx is done before, it returns the error of ctx.
func (f Fault) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil || f.Delay <= 0 {
		return err
	}
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Injector says which fault, if any, a call meets. It is safe for concurrent use; a nil Injector has no faults.
type Injector struct {
	faults atomic.Pointer[[]Fault]
	random func() float64
}

// New returns an Injector of these faults, of which there may be none yet. An error names the fault and the field.
func New(faults ...Fault) (*Injector, error) { return NewWithRand(rand.Float64, faults...) }

// NewWithRand is [New] with dice of the caller's own, for tests that must come out the same every time. It returns numbers from 0
// to below 1, and must be safe for concurrent use; a fault happens where the number is below its Share.
func NewWithRand(random func() float64, faults ...Fault) (*Injector, error) {
	if random == nil {
		return nil, errors.New("fault: there are no dice")
	}
	i := &Injector{random: random}
	if err := i.Set(faults...); err != nil {
		return nil, err
	}
	return i, nil
}

// Set puts these faults in the place of all that there were; without any, there are none. Calls may run meanwhile: each meets the
// old faults or the new ones. If one of them is wrong, nothing changes.
func (i *Injector) Set(faults ...Fault) error {
	for n, f := range faults {
		if field, problem := f.problem(); field != "" {
			return fmt.Errorf("fault: faults[%d].%s: %s", n, field, problem)
		}
	}
	if len(faults) == 0 {
		i.faults.Store(nil)
		return nil
	}
	own := append([]Fault(nil), faults...)
	i.faults.Store(&own)
	return nil
}

// Pick returns the fault that a call meets: the first of those that name its method and caller whose dice hit. Each of them rolls
// its own, so it must be asked once a call.
func (i *Injector) Pick(method, caller string) (Fault, bool) {
	if i == nil {
		return Fault{}, false
	}
	faults := i.faults.Load()
	if faults == nil {
		return Fault{}, false
	}
	for _, f := range *faults {
		if (f.Method == "" || f.Method == method) && (f.Caller == "" || f.Caller == caller) && i.random() < f.Share {
			return f, true
		}
	}
	return Fault{}, false
}
