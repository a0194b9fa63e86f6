package glued

import (
	"fmt"
	"sync"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// callers is how many goroutines share the one connection of a side.
const callers = 64

// spread makes n calls from so many callers, and returns the first error of one.
func spread(n, callers int, call func() error) error {
	var all sync.WaitGroup
	errs := make(chan error, callers)
	for i := range callers {
		all.Go(func() {
			for range n/callers + min(1, max(0, n%callers-i)) {
				if err := call(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// Side makes a side of calls from 64 callers, with a message that has rules or without, which must be answered with the entry that the
// service has.
func Side(name string, c benchv1.TransferServiceClient, rules bool) row.Side {
	one := func() error {
		resp, err := TransferPlain(c)
		return answered(resp.GetEntry(), err)
	}
	if rules {
		one = func() error {
			resp, err := Transfer(c)
			return answered(resp.GetEntry(), err)
		}
	}
	return row.Side{Name: name, Run: func(n int) error { return spread(n, callers, one) }}
}

func answered(entry string, err error) error {
	if err == nil && entry != "4711" {
		err = fmt.Errorf("the answer was %q", entry)
	}
	return err
}
