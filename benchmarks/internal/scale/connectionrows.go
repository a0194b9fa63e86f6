package scale

import (
	"fmt"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// ofConnections measures servers with more and more connections.
func (r *run) ofConnections() error {
	w, err := newWorld(fleet)
	if err != nil {
		return err
	}
	defer w.close()
	over, bare := row.Line{Name: "a guard, over bare mTLS"}, row.Line{Name: "bare mTLS, with the caller's end"}
	fewer := ""
	var values map[string][]float64
	n := 0
	for _, wanted := range r.connections {
		n = room(wanted)
		if values, err = w.connections(n, r.connectionRounds); err != nil {
			return err
		}
		over.Add(float64(n), difference(values[guarded], values[bareTLS])...)
		bare.Add(float64(n), values[bareTLS]...)
		if n < wanted {
			fewer = fmt.Sprintf(". %d connections were wanted, and open files are limited to %d", wanted, n)
			break
		}
	}
	r.draw("Memory a connection", "connections", "bytes", over, bare)
	for _, than := range []string{bareTLS, goSPIFFE} {
		line := row.Row{
			Group: group, Name: fmt.Sprintf("memory a connection over %s, %d connections", than, n), Unit: "bytes",
			Ours: row.Figure{Name: guarded, Values: difference(values[guarded], values[than])},
			Note: fmt.Sprintf("of %.0f bytes, heap and stacks, each connection idle after one call of a caller of its own, under two rate limits; the caller's end, the same for all, is in them%s",
				row.Median(values[than]), fewer),
		}
		line.Enough = goalConnection
		r.rows = append(r.rows, line)
	}
	return nil
}

// difference returns how much more ours is, round by round.
func difference(ours, theirs []float64) []float64 {
	d := make([]float64, min(len(ours), len(theirs)))
	for i := range d {
		d[i] = ours[i] - theirs[i]
	}
	return d
}
