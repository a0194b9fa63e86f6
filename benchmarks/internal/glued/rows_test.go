package glued

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// All that is measured can be, with the answers that are expected.
func TestRowsOfOneRound(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, enough, time.Second)
	for _, c := range comparisons {
		rows, err := w.compare(c, 1, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if len(r.Ours.Values) != 1 || len(r.Theirs.Values) != 1 || len(r.Ours.Allocs) != 1 {
				t.Errorf("%s: %+v", r.Name, r)
			}
		}
	}
}

// The chains answer what is around them, and do so without a limit.
func TestChains(t *testing.T) {
	t.Parallel()
	m, err := Chains(2, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Wall) != 2 || len(m.Allocs) != 2 || m.Wall[0] <= 0 {
		t.Errorf("%+v", m)
	}
}

// Interceptors run in their order, each once, and what they pass on arrives.
func TestInterceptorsAreChained(t *testing.T) {
	t.Parallel()
	var order []string
	server := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			order = append(order, name)
			return next(ctx, req)
		}
	}
	client := func(name string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			order = append(order, name)
			return next(ctx, method, req, reply, cc, opts...)
		}
	}
	got, err := serves([]grpc.UnaryServerInterceptor{server("a"), server("b"), server("c")}, nil, func(_ context.Context, req any) (any, error) { return req, nil })(t.Context(), 7)
	if err != nil || got != 7 {
		t.Errorf("%v, %v", got, err)
	}
	failed := errors.New("failed")
	err = calls([]grpc.UnaryClientInterceptor{client("d"), client("e")}, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return failed })(t.Context(), "/m", nil, nil, nil)
	if !errors.Is(err, failed) || !slices.Equal(order, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("%v, %v", order, err)
	}
}

func TestARowThatIsTooNoisySaysSo(t *testing.T) {
	t.Parallel()
	bare := []float64{10, 10, 10, 10}
	for _, tt := range []struct {
		name          string
		guarded, glue []float64
		want          string
	}{
		{"quiet", []float64{11, 11, 11, 11}, []float64{13, 13, 13, 13}, "; a bare call 10 ns"},
		{"cheaper than bare", []float64{11, 7, 11, 11}, []float64{13, 13, 13, 13}, "; too noisy: in some round a side took 3 ns less than what it contains"},
		{"no agreement", []float64{11, 11, 12, 13}, []float64{13, 13, 12, 11}, "; too noisy: half of the rounds say 1.0 to 3.0"},
	} {
		if r := added("x", bare, tt.guarded, tt.glue); !strings.HasSuffix(r.Note, tt.want) {
			t.Errorf("%s: %q, want an end of %q", tt.name, r.Note, tt.want)
		}
	}
}
