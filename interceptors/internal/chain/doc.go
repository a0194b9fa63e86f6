// Package chain is the frame that every control runs in: what a stage is, what is known of a call, and the adapters that turn
// gRPC's hooks into stages' hooks. There is one unary and one stream adapter a side and nothing else, so that a control which
// works for one kind of call works for all: a unary call is a stream of one message each way.
//
// On a server a call is met first in gRPC's tap, where its headers are known and nothing of its messages has been read. What
// depends on the caller and the method alone is decided there (Admit), so that a caller who is not allowed cannot make the
// server decode anything. The rest happens on the call's own goroutine, in the interceptors. docs/decisions/0002-tap.md says
// what was measured and what was turned down.
package chain
