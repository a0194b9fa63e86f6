package glued

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

func newTestWorld(t *testing.T, requests int, per time.Duration) *World {
	t.Helper()
	w, err := NewWorld(requests, per)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// start starts one of the three sides.
type start func(w *World, stranger bool, level Level) (benchv1.TransferServiceClient, error)

func startBare(w *World, stranger bool, _ Level) (benchv1.TransferServiceClient, error) {
	return w.Bare(stranger)
}

func startGuarded(w *World, stranger bool, level Level) (benchv1.TransferServiceClient, error) {
	return w.Guarded(stranger, level, nil)
}

func startGlued(w *World, stranger bool, level Level) (benchv1.TransferServiceClient, error) {
	return w.Glued(stranger, level, io.Discard)
}

var levels = map[string]Level{"controls": Controls, "validation": WithValidation, "tracing": WithTracing}

// A row compares what does the same: whatever level the sides have, they answer alike.
func TestTheSidesAnswerAlike(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, enough, time.Second)
	invalid := &benchv1.TransferRequest{TransactionId: "tx-1", FromAccount: "DE02120300000000202051", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 1}
	for name, level := range levels {
		for _, side := range []struct {
			name     string
			start    start
			controls bool
			rules    bool
		}{
			{"bare", startBare, false, false},
			// The guard validates whatever has rules; those who do not want it measure messages without.
			{"guarded", startGuarded, true, true},
			{"glued", startGlued, true, level >= WithValidation},
		} {
			friend, err := side.start(w, false, level)
			if err != nil {
				t.Fatal(err)
			}
			stranger, err := side.start(w, true, level)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+side.name, func(t *testing.T) {
				t.Parallel()
				resp, err := Transfer(friend)
				if want := (&benchv1.TransferResponse{Entry: "4711"}); err != nil || !proto.Equal(resp, want) {
					t.Errorf("a transfer: %v, %v", resp, err)
				}
				plain, err := TransferPlain(friend)
				if want := (&benchv1.TransferPlainResponse{Entry: "4711"}); err != nil || !proto.Equal(plain, want) {
					t.Errorf("a transfer without rules: %v, %v", plain, err)
				}
				_, err = Transfer(stranger)
				if want := codeIf(side.controls, codes.PermissionDenied); status.Code(err) != want {
					t.Errorf("a stranger: %v, want %v", err, want)
				}
				_, err = friend.Transfer(context.Background(), invalid)
				if want := codeIf(side.rules, codes.InvalidArgument); status.Code(err) != want {
					t.Errorf("an invalid message: %v, want %v", err, want)
				}
			})
		}
	}
}

// The limit is the same number, and counts from the first call.
func TestTheSidesRefuseTheSameCall(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, 3, time.Hour)
	for name, level := range levels {
		for side, start := range map[string]start{"guarded": startGuarded, "glued": startGlued} {
			c, err := start(w, false, level)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+side, func(t *testing.T) {
				t.Parallel()
				for i := range 5 {
					_, err := Transfer(c)
					if want := codeIf(i >= 3, codes.ResourceExhausted); status.Code(err) != want {
						t.Errorf("call %d: %v, want %v", i+1, err, want)
					}
				}
			})
		}
	}
}

func codeIf(is bool, code codes.Code) codes.Code {
	if is {
		return code
	}
	return codes.OK
}
