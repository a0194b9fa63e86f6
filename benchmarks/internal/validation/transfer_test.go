package validation

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

// Both sides say the same of a transfer, whatever is in it: as the generated type, and as the types that are made at run time.
// The corpus is in testdata.
func FuzzTransfer(f *testing.F) {
	var sides []side
	for _, c := range cases() {
		both, err := newPair(c.message.ProtoReflect().Descriptor())
		if err != nil {
			f.Fatal(err)
		}
		sides = append(sides, side{both, c.message.ProtoReflect().Descriptor()})
	}
	f.Fuzz(func(t *testing.T, id, from, to, currency string, amount int64, purpose string) {
		m := &benchv1.TransferRequest{TransactionId: id, FromAccount: from, ToAccount: to, Currency: currency, Amount: amount, Purpose: purpose}
		for _, s := range sides {
			s.compare(t, m)
		}
	})
}

// The same of what comes off the wire: unknown fields, fields that come twice, and what is not set.
func FuzzTransferOnTheWire(f *testing.F) {
	both, err := newPair((&benchv1.TransferRequest{}).ProtoReflect().Descriptor())
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []proto.Message{transfer(), broken(), &benchv1.TransferRequest{}} {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		f.Add(append(wire, wire...))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := &benchv1.TransferRequest{}
		if proto.Unmarshal(wire, m) == nil {
			side{both, m.ProtoReflect().Descriptor()}.compare(t, m)
		}
	})
}

// side is both validators for one type.
type side struct {
	*pair

	desc protoreflect.MessageDescriptor
}

func (s side) compare(t *testing.T, m *benchv1.TransferRequest) {
	t.Helper()
	var asked proto.Message = m
	if s.desc != m.ProtoReflect().Descriptor() {
		asked = as(m, s.desc)
	}
	ours, theirs := s.verdicts(asked)
	const maxDetailed = 4 << 10 // of a larger message ours says the first violation alone
	if proto.Size(asked) > maxDetailed && len(theirs.broken) > 0 {
		theirs.broken, ours.broken = nil, nil
	}
	if ours.differs(theirs) {
		t.Errorf("ours says %v, protovalidate %v, of %s", ours, theirs, prototext.Format(asked))
	}
}
