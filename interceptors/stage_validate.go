package interceptors

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/protoadapt"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/validate"
)

// validateStage checks each message, both ways or one. What comes from the other side is its fault and it learns what is wrong;
// what this side would send is ours, and on a server nobody learns anything.
type validateStage struct {
	rules         *validate.Validator
	received      refuser
	sent          refuser
	checkReceived bool
	checkSent     bool
}

// refuser makes the refusal of an invalid message.
type refuser func(detail string, details ...protoadapt.MessageV1) *chain.Refusal

func (validateStage) Name() string { return "validate" }

func (s validateStage) Receive(_ context.Context, _ *chain.Call, m chain.Message) *chain.Refusal {
	if !s.checkReceived {
		return nil
	}
	return s.check(m, s.received)
}

func (s validateStage) Send(_ context.Context, _ *chain.Call, m chain.Message) *chain.Refusal {
	if !s.checkSent {
		return nil
	}
	return s.check(m, s.sent)
}

func (s validateStage) check(m chain.Message, refuse refuser) *chain.Refusal {
	if m.Proto == nil {
		return refuse(fmt.Sprintf("a %T is not a protobuf message and cannot be validated", m.Value))
	}
	err := s.rules.Check(m.Proto)
	if err == nil {
		return nil
	}
	if broken, ok := errors.AsType[*validate.Violations](err); ok {
		return refuse(broken.Error(), broken.BadRequest(), broken.Proto)
	}
	// What cannot be decided is refused.
	return refuse(err.Error())
}

// theirFault tells the other side which fields break which rules.
func theirFault(detail string, details ...protoadapt.MessageV1) *chain.Refusal {
	return theirFaultFor("invalid-message", detail, details...)
}

// ourFault tells the other side nothing.
func ourFault(detail string, _ ...protoadapt.MessageV1) *chain.Refusal {
	return chain.RefuseWith(codes.Internal, "internal error", "invalid-response", detail)
}

// calleesFault tells this program that a callee sent an invalid response.
func calleesFault(detail string, details ...protoadapt.MessageV1) *chain.Refusal {
	return chain.RefuseWith(codes.Internal, "the response is invalid", "invalid-response", detail,
		append([]protoadapt.MessageV1{errorInfo("MESSAGE_INVALID")}, details...)...)
}
