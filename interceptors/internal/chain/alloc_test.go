package chain

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

type nothing struct{}

func (nothing) Name() string         { return "nothing" }
func (nothing) Admit(*Call) *Refusal { return nil }

var who = spiffeid.RequireFromString("spiffe://a.test/b")

// The frame itself costs a call no allocation beyond the Call: not to run the hooks, nor to come to a result.
func TestRunningTheStagesAllocatesNothing(t *testing.T) {
	s := newStages([]Stage{nothing{}, nothing{}, nothing{}})
	c := &Call{Context: t.Context()}
	msg := MessageOf(who)
	if n := testing.AllocsPerRun(100, func() {
		if _, r := s.runBegin(c, c); r != nil || s.runAdmit(c) != nil || s.runReceive(c, c, msg) != nil || s.runSend(c, c, msg) != nil || c.conclude(nil, nil) != nil {
			t.Fatal("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if c.Result.Outcome != audit.OutcomeOK {
		t.Errorf("%+v", c.Result)
	}
}
