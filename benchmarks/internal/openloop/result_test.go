package openloop

import (
	"testing"
	"time"
)

func TestPercentilesOfWhatWasMeasured(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 1000 {
		values = append(values, time.Duration(i+1)*time.Millisecond)
	}
	r := newResult(values, values, 0)
	for p, want := range map[float64]time.Duration{50: 500 * time.Millisecond, 99: 990 * time.Millisecond, 99.9: 999 * time.Millisecond, 100: time.Second} {
		if got := r.Percentile(p); got < want-want/1000 || got > want+want/500 || r.Lag(p) != got {
			t.Errorf("p%g is %v, want %v", p, got, want)
		}
	}
	curve := r.Curve()
	for i := range curve[1:] {
		if curve[i+1].Percent < curve[i].Percent || curve[i+1].Latency < curve[i].Latency {
			t.Errorf("the curve falls at %v", curve[i])
		}
	}
	if last := curve[len(curve)-1]; last.Percent != 100 || last.Latency < time.Second {
		t.Errorf("the curve ends at %v", last)
	}
}
