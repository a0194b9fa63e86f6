package chain

import "google.golang.org/protobuf/proto"

// Message is a message that passes, and what several stages want to know of it.
type Message struct {
	// Proto is the message; nil if it is none of protobuf's, which no stage can look into.
	Proto proto.Message
	// Value is the message as gRPC has it.
	Value any

	size    int
	weighed bool
}

// MessageOf returns a message that nobody has weighed yet.
func MessageOf(value any) Message {
	m, _ := value.(proto.Message)
	return Message{Proto: m, Value: value}
}

// Size is how many bytes the message takes when encoded without redundancy; 0 if it is none of protobuf's.
func (m Message) Size() int {
	if !m.weighed && m.Proto != nil {
		return proto.Size(m.Proto)
	}
	return m.size
}

// Weigher is a stage that has the bytes of all messages counted, for [Call.ReceivedBytes] and [Call.SentBytes]. Of a call that no such stage
// sees they are not.
type Weigher interface{ Weighs() }

// message returns a message of the call. Where it is weighed at all, it is weighed once for all who ask.
func (c *Call) message(value any) Message {
	m := MessageOf(value)
	if c.stages.weigh {
		m.size, m.weighed = m.Size(), true
	}
	return m
}

// clear empties a message that was refused, so that a program which looks at it before the error finds nothing.
func (m Message) clear() {
	if m.Proto != nil {
		proto.Reset(m.Proto)
	}
}
