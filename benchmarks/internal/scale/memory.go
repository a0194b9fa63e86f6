package scale

import (
	"runtime"
	"runtime/metrics"
)

// inUse returns the bytes of live objects on the heap and of stacks, of the whole process. It collects garbage several times: the
// first collection finalizes, pools give up what they hold in two, and stacks shrink in one.
func inUse() (heap, stacks float64) {
	for range 3 {
		runtime.GC()
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64()), float64(samples[1].Value.Uint64())
}

// heldBy returns the bytes on the heap that what hold returns holds, beyond what was there before, and what it returned.
func heldBy[T any](hold func() (T, error)) (held T, bytes float64, err error) {
	before, _ := inUse()
	if held, err = hold(); err != nil {
		return held, 0, err
	}
	after, _ := inUse()
	return held, after - before, nil
}
