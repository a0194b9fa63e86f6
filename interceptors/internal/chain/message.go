package chain

import "google.golang.org/protobuf/proto"

// Message is a message that passes, and what several stages want to know of it.
type Message struct {
	// Proto is the message; nil if it is none of protobuf's, which no stage can look into.
	Proto proto.Message
	// Value is the message as gRPC has it.
	Value any
	// Size is how many bytes it takes when encoded without redundancy.
	Size int
}

// MessageOf reads the size of a message, once for all who ask.
func MessageOf(value any) Message {
	m, ok := value.(proto.Message)
	if !ok {
		return Message{Value: value}
	}
	return Message{Proto: m, Value: value, Size: proto.Size(m)}
}

// clear empties a message that was refused, so that a program which looks at it before the error finds nothing.
func (m Message) clear() {
	if m.Proto != nil {
		proto.Reset(m.Proto)
	}
}
