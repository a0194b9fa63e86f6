package openloop

import (
	"math/rand/v2"
	"time"
)

// arrivals returns when each call is meant to start, from the start of the load and in order. They are Poisson's, independent of each
// other, where there is a seed, and evenly spaced where it is 0.
func (l *Load) arrivals() []time.Duration {
	gap := float64(time.Second) / l.Rate
	random := rand.New(rand.NewPCG(l.Seed, 0))
	at := make([]time.Duration, 0, int(l.Rate*l.Duration.Seconds())+1)
	for t := 0.0; t < float64(l.Duration); {
		at = append(at, time.Duration(t))
		if l.Seed == 0 {
			t = float64(len(at)) * gap
		} else {
			t += random.ExpFloat64() * gap
		}
	}
	return at
}
