package chain

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// withheld keeps the headers and trailers of a handler back. They can tell as much as a message does, and gRPC sends them with any
// status, be it that the outcome could not be recorded or that the call's time is over. It stands in for the stream that [grpc.SetHeader]
// and its like find in a handler's context.
type withheld struct {
	grpc.ServerTransportStream

	setHeader, sendHeader, setTrailer func(metadata.MD) error
	tells                             func() *Refusal // nil for a unary call, whose header leaves with its message

	mu              sync.Mutex
	header, trailer metadata.MD
	left            bool // the header has
}

// Withhold has nothing leave that the handler says before the call's End hooks have run without an error, but for the messages and the
// header of a stream, which [Sender] and [HeaderSender] see. For Begin hooks of a server.
func (c *Call) Withhold() { c.withhold = true }

// withholds makes what [Call.Withhold] asked for, around a stream or, where it is nil, around a unary call, and returns the handler's context.
func (c *Call) withholds(ctx context.Context, ss grpc.ServerStream) context.Context {
	if !c.withhold {
		return ctx
	}
	w := &withheld{ServerTransportStream: c.stream}
	switch {
	case ss != nil:
		w.setHeader, w.sendHeader = ss.SetHeader, ss.SendHeader
		w.setTrailer = func(md metadata.MD) error { ss.SetTrailer(md); return nil }
		w.tells = func() *Refusal { return c.stages.runSendHeader(ctx, c) }
	case c.stream != nil:
		w.setHeader, w.setTrailer = c.stream.SetHeader, c.stream.SetTrailer
	default:
		return ctx // There is nothing that a handler could set.
	}
	c.withheld = w
	if c.stream == nil {
		return ctx
	}
	return grpc.NewContextWithServerTransportStream(ctx, w)
}

// SetHeader implements [grpc.ServerTransportStream].
func (w *withheld) SetHeader(md metadata.MD) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left {
		return w.setHeader(md) //nolint:wrapcheck // It is gRPC's.
	}
	w.header = metadata.Join(w.header, md)
	return nil
}

// SendHeader implements [grpc.ServerTransportStream].
func (w *withheld) SendHeader(md metadata.MD) error {
	if w.tells == nil {
		return w.SetHeader(md)
	}
	if r := w.tells(); r != nil {
		return r.err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	md, w.header, w.left = metadata.Join(w.header, md), nil, true
	return w.sendHeader(md) //nolint:wrapcheck // It is gRPC's.
}

// SetTrailer implements [grpc.ServerTransportStream].
func (w *withheld) SetTrailer(md metadata.MD) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trailer = metadata.Join(w.trailer, md)
	return nil
}

// letHeader lets the header leave, with the message or the status that is next. An error says that it has left or that nobody is there.
func (w *withheld) letHeader() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.header) > 0 {
		_ = w.setHeader(w.header)
	}
	w.header, w.left = nil, true
}

// letGo lets all leave.
func (w *withheld) letGo() {
	w.letHeader()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trailer) > 0 {
		_ = w.setTrailer(w.trailer)
	}
	w.trailer = nil
}
