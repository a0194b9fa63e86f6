package openloop

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestArrivalsAreEvenWithoutASeed(t *testing.T) {
	t.Parallel()
	got := (&Load{Rate: 4, Duration: time.Second}).arrivals()
	if want := []time.Duration{0, 250e6, 500e6, 750e6}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The gaps of Poisson arrivals have the same mean and deviation, and the same seed has the same arrivals.
func TestArrivalsArePoissons(t *testing.T) {
	t.Parallel()
	l := Load{Rate: 1000, Duration: 100 * time.Second, Seed: 7}
	at := l.arrivals()
	if !slices.Equal(at, l.arrivals()) || !slices.IsSorted(at) {
		t.Error("the arrivals are not the same, or not in order")
	}
	var sum, squares float64
	for i := range at[1:] {
		gap := (at[i+1] - at[i]).Seconds()
		sum, squares = sum+gap, squares+gap*gap
	}
	n := float64(len(at) - 1)
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(mean-0.001) > 0.00003 || math.Abs(deviation-0.001) > 0.00003 {
		t.Errorf("%d arrivals, gaps of %g s, give or take %g", len(at), mean, deviation)
	}
}
