// Package validation measures the guard's check of a message beside protovalidate's own.
package validation

import (
	"errors"
	"fmt"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/validate"
)

// Rows measures messages that keep their rules and one that does not, with validate.Validator and with a protovalidate.Validator that is made
// once and told its types, as protovalidate's documentation has it. It first makes sure that both say the same of each message. Quick
// takes a few seconds, and more than a minute is not taken.
func Rows(quick bool) ([]row.Row, error) {
	rounds, turn := 15, 200*time.Millisecond
	if quick {
		rounds, turn = 9, 40*time.Millisecond
	}
	var rows []row.Row
	for _, c := range cases() {
		r, err := c.row(rounds, turn)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// row measures one case.
func (c *testCase) row(rounds int, turn time.Duration) (row.Row, error) {
	both, err := newPair(c.message.ProtoReflect().Descriptor())
	if err != nil {
		return row.Row{}, err
	}
	ours, theirs := both.verdicts(c.message)
	if ours.differs(theirs) || ours.valid != c.valid {
		return row.Row{}, fmt.Errorf("ours says %v, protovalidate %v", ours, theirs)
	}
	measured, err := row.Interleave(rounds, turn,
		row.Side{Name: "ours", Run: repeat(both.ours.Check, c.message, c.valid)},
		row.Side{Name: "protovalidate", Run: repeat(func(m proto.Message) error { return both.theirs.Validate(m) }, c.message, c.valid)},
	)
	if err != nil {
		return row.Row{}, err
	}
	return row.Row{
		Group: "Validation", Name: c.name, Unit: "ns",
		Ours:   row.Figure{Name: "grpcguard", Values: measured[0].CPU, Allocs: measured[0].Allocs},
		Theirs: row.Figure{Name: "protovalidate", Values: measured[1].CPU, Allocs: measured[1].Allocs},
		Note:   c.note,
	}, nil
}

var errVerdict = errors.New("not the verdict that was expected")

func repeat(check func(proto.Message) error, m proto.Message, valid bool) func(int) error {
	return func(n int) error {
		for range n {
			if (check(m) == nil) != valid {
				return errVerdict
			}
		}
		return nil
	}
}

// pair is the two sides, for messages of one type.
type pair struct {
	ours   *validate.Validator
	theirs protovalidate.Validator
}

func newPair(d protoreflect.MessageDescriptor) (*pair, error) {
	ours, err := validate.New(d)
	if err != nil {
		return nil, err
	}
	theirs, err := protovalidate.New(protovalidate.WithMessageDescriptors(d))
	if err != nil {
		return nil, err
	}
	return &pair{ours, theirs}, nil
}
