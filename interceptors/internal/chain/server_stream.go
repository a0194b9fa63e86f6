package chain

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// serverStream passes each message of a stream through the stages. Once one is refused, nothing passes any more, either way.
type serverStream struct {
	grpc.ServerStream

	ctx  context.Context //nolint:containedctx // A stream has one; gRPC asks for it by Context().
	call *Call
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SetHeader(md metadata.MD) error {
	if w := s.call.withheld; w != nil {
		return w.SetHeader(md)
	}
	return s.ServerStream.SetHeader(md) //nolint:wrapcheck // It is gRPC's.
}

func (s *serverStream) SendHeader(md metadata.MD) error {
	if w := s.call.withheld; w != nil {
		return w.SendHeader(md)
	}
	return s.ServerStream.SendHeader(md) //nolint:wrapcheck // It is gRPC's.
}

func (s *serverStream) SetTrailer(md metadata.MD) {
	if w := s.call.withheld; w != nil {
		_ = w.SetTrailer(md) // It never fails.
		return
	}
	s.ServerStream.SetTrailer(md)
}

func (s *serverStream) RecvMsg(m any) error {
	if r := s.call.refused(); r != nil {
		return r.err
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		if !errors.Is(err, io.EOF) {
			s.call.answeredWith(err)
		}
		return err
	}
	received := s.call.message(m)
	if r := s.call.stages.runReceive(s.ctx, s.call, received); r != nil {
		received.clear()
		return r.err
	}
	return nil
}

func (s *serverStream) SendMsg(m any) error {
	if r := s.call.refused(); r != nil {
		return r.err
	}
	sent := s.call.message(m)
	if r := s.call.stages.runSend(s.ctx, s.call, sent); r != nil {
		return r.err
	}
	if w := s.call.withheld; w != nil {
		w.letHeader()
	}
	if err := s.ServerStream.SendMsg(m); err != nil {
		s.call.answeredWith(err)
		return err
	}
	s.call.sent.add(sent)
	return nil
}
