package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A set finds what a list of its entries finds that is read from the start, once for IDs and once for patterns, and compares IDs as values.
func TestACallerSetFindsWhatAListFinds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 5))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	// IDs that begin alike, also beyond the trust domain, so that a text that is cut in another place would be found.
	id := func() string {
		text := "spiffe://" + pick("a", "a.b", "a.b.c")
		for range 1 + random.IntN(3) {
			text += "/" + pick("a", "b", "ab", "a.b")
		}
		return text
	}
	found, missed := 0, 0
	for range 500 {
		var set callerSet
		var list []patternDecision
		for i := range random.IntN(20) {
			text := id() + pick("", "", "/*", "/**")
			p, err := ParsePattern(text)
			if err != nil {
				t.Fatal(err)
			}
			d := &Decision{Rule: fmt.Sprint(i)}
			set.add(p, d)
			list = append(list, patternDecision{p, d})
		}
		for range 20 {
			who := spiffeid.RequireFromString(id())
			want := inList(list, who)
			if got := set.find(who); got != want {
				t.Fatalf("%s in %v: got %v, want %v", who, list, got, want)
			}
			if want != nil {
				found++
			} else {
				missed++
			}
		}
	}
	if found < 1000 || missed < 1000 {
		t.Errorf("%d found and %d missed prove little", found, missed)
	}
}

func inList(list []patternDecision, who spiffeid.ID) *Decision {
	for _, e := range list {
		if id, exact := e.pattern.ID(); exact && id == who {
			return e.decision
		}
	}
	for _, e := range list {
		if _, exact := e.pattern.ID(); !exact && e.pattern.Match(who) {
			return e.decision
		}
	}
	return nil
}
