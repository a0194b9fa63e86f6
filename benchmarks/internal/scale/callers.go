package scale

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// mostBound is how many IDs one name can be bound to, and a rule can list, by the schema.
const mostBound = 1024

// listed returns a policy with one method that n callers may call, each listed by its SPIFFE ID, and those callers.
func listed(n int) (*policy.Policy, error) {
	var text strings.Builder
	text.WriteString("names:\n")
	var names []string
	for first := 0; first < n; first += mostBound {
		name := fmt.Sprintf("part-%d", first/mostBound)
		names = append(names, name)
		fmt.Fprintf(&text, "  %s: {spiffe_ids: [", name)
		for i := first; i < min(first+mostBound, n); i++ {
			fmt.Fprintf(&text, "%q, ", fleetID(i))
		}
		text.WriteString("]}\n")
	}
	return compileOne(text.String(), &grpcguardv1.Rule{Callers: names})
}

// matched returns a policy with one method that every caller of the fleet may call, by one pattern.
func matched() (*policy.Policy, error) {
	return compileOne("", &grpcguardv1.Rule{Callers: []string{"spiffe://scale.example/fleet/*"}})
}

func compileOne(text string, rule *grpcguardv1.Rule) (*policy.Policy, error) {
	file, err := policy.ParseFile("policy.yaml", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	files, err := api{methods: 1, rule: func() *grpcguardv1.Rule { return rule }}.descriptors()
	if err != nil {
		return nil, err
	}
	p, err := policy.Compile(file, files...)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	return p, nil
}

func fleetID(n int) string { return fmt.Sprintf("spiffe://scale.example/fleet/workload-%d", n) }

// subjects returns some of the first n callers of the fleet.
func subjects(n, most int) []policy.Subject {
	all := make([]policy.Subject, 0, most)
	for _, i := range some(most, n) {
		all = append(all, policy.Subject{ID: id(fmt.Sprintf("/fleet/workload-%d", i)), Serial: fmt.Sprintf("%x", i+1)})
	}
	return all
}

// limiterCost is what a limiter with a key for each of some callers costs.
type limiterCost struct {
	limiter *ratelimit.Limiter
	bytes   float64 // a caller
	keys    []ratelimit.Key
	// crowded is the part of the callers that found no room of their own, of as many as there are.
	crowded float64
	now     time.Time
}

// ofLimiter lets n callers call once each, under a limit of which nobody's permits come back meanwhile.
func ofLimiter(n int) (*limiterCost, error) {
	c := &limiterCost{now: time.Now(), keys: make([]ratelimit.Key, n)}
	for i := range c.keys {
		c.keys[i] = ratelimit.TextKey(fleetID(i))
	}
	limiter, bytes, err := heldBy(func() (*ratelimit.Limiter, error) {
		l, err := ratelimit.New(ratelimit.Limit{Permits: 1_000_000_000_000, Per: time.Hour})
		if err != nil {
			return nil, err
		}
		for _, key := range c.keys {
			if !l.Take(c.now, key, 1).Allowed {
				return nil, errors.New("scale: a caller's first call was refused")
			}
		}
		return l, nil
	})
	if err != nil {
		return nil, err
	}
	c.limiter, c.bytes = limiter, bytes/float64(n)
	c.crowded = float64(limiter.Stats().Shared) / float64(n)
	return c, nil
}
