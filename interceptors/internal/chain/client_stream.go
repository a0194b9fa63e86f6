package chain

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
)

// clientStream passes each message of a stream through the stages, and ends the call once the stream has ended: with the
// status that RecvMsg returns, with a refusal, or when its context does.
type clientStream struct {
	grpc.ClientStream

	chain       *Client
	ctx         context.Context //nolint:containedctx // A stream has one.
	call        *Call
	answersOnce bool // the server sends one message, so receiving it is the end

	once sync.Once
	err  error
}

func (s *clientStream) finish(err error) error {
	s.call.unwatch()
	return s.finishOnce(err)
}

func (s *clientStream) finishOnce(err error) error {
	s.once.Do(func() { s.err = s.chain.finish(s.call, err, nil) })
	return s.err
}

func (s *clientStream) SendMsg(m any) error {
	sent := s.call.message(m)
	if r := s.call.stages.runSend(s.ctx, s.call, sent); r != nil {
		return s.finish(r.err)
	}
	switch err := s.ClientStream.SendMsg(m); {
	case errors.Is(err, io.EOF):
		// The stream has ended, and RecvMsg knows how.
		return err
	case err != nil:
		// gRPC has ended it.
		return s.finish(err)
	}
	s.call.sent.add(sent)
	return nil
}

func (s *clientStream) RecvMsg(m any) error {
	if r := s.call.refusal.Load(); r != nil {
		return s.finish(r.err)
	}
	err := s.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF):
		if err := s.finish(nil); err != nil {
			return err
		}
		return io.EOF
	case err != nil:
		return s.finish(err)
	}
	received := s.call.message(m)
	if r := s.call.stages.runReceive(s.ctx, s.call, received); r != nil {
		received.clear()
		return s.finish(r.err)
	}
	if s.answersOnce {
		return s.finish(nil)
	}
	return nil
}
