package interceptors_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors"
)

// rawConn is a connection of id's on which a test writes HTTP/2 frames as it likes.
func (w *world) rawConn(id string) *tls.Conn {
	w.t.Helper()
	svid, err := w.workload(id).GetX509SVID()
	must(w.t, err)
	c, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{{PrivateKey: svid.PrivateKey, Certificate: [][]byte{svid.Certificates[0].Raw}}}})
	must(w.t, err)
	_, err = c.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(0x4, 0, 0, nil)...))
	must(w.t, err)
	return c
}

// frame is one HTTP/2 frame.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	f := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(f, stream), payload...)
}

// fields is a header block without any compression.
func fields(kv ...string) (block []byte) {
	for i, text := range kv {
		if i%2 == 0 {
			block = append(block, 0) // Literal, not to be remembered, new name.
		}
		if n := len(text); n < 127 {
			block = append(block, byte(n))
		} else {
			block = append(block, 127)
			for n -= 127; n >= 128; n >>= 7 {
				block = append(block, byte(n)|128)
			}
			block = append(block, byte(n))
		}
		block = append(block, text...)
	}
	return block
}

// floodWith opens calls on one connection until it is closed from the other side or there were n, and says how many were written.
func (w *world) floodWith(id string, n int, extra ...string) (written int, closed bool) {
	w.t.Helper()
	c := w.rawConn(id)
	defer c.Close()
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, c)
		close(over)
	}()
	block := fields(append([]string{
		":method", "POST", ":scheme", "https", ":path", "/guardtest.v1.EchoService/Unary", ":authority", "a", "content-type", "application/grpc", "te", "trailers",
	}, extra...)...)
	var out bytes.Buffer
	for i := range n {
		out.Write(frame(0x1, 0x1|0x4, uint32(2*i+1), block)) // HEADERS, the last of the stream.
		if out.Len() < 32<<10 && i < n-1 {
			continue
		}
		if _, err := c.Write(out.Bytes()); err != nil {
			return i, true
		}
		out.Reset()
		written = i + 1
	}
	select {
	case <-over:
		return written, true
	case <-time.After(500 * time.Millisecond): // It stays open.
		return written, false
	}
}

var awayText = regexp.MustCompile(`^(\d+) calls were turned away without records of their own, since the sink was behind$`)

// Calls whose time is over when they come are no streams, and nothing of gRPC's bounds them. While the sink stands still there are
// only so many goroutines and bytes of them, the connection they come on is closed, and how many had no record is said.
// Not parallel: it counts goroutines and memory.
func TestAFloodOfCallsWhoseTimeIsOver(t *testing.T) {
	big := strings.Repeat("x", 4000)
	for _, who := range []string{strangerID, friendID} {
		for _, traced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, traced %v", who, traced), func(t *testing.T) {
				reported := make(chan error, 1000)
				w := newWorld(t, interceptors.Telemetry{Off: !traced}, interceptors.WithSinkErrorHandler(func(err error) { reported <- err }))
				w.records.blocked = make(chan struct{})
				heap := func() (n uint64) {
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				goroutines, before := runtime.NumGoroutine(), heap()
				written, cut := 0, 0
				for range 5 {
					n, closed := w.floodWith(who, 5000, "grpc-timeout", "1n", "a", big)
					written += n
					if closed {
						cut++
					}
				}
				if n := runtime.NumGoroutine() - goroutines; n > 3000 {
					t.Errorf("%d goroutines", n)
				}
				if n := int64(heap()) - int64(before); n > 64<<20 {
					t.Errorf("%d MiB of heap", n>>20)
				}
				if cut == 0 {
					t.Error("no connection was closed")
				}
				close(w.records.blocked)
				must(t, w.guard.Close(t.Context()))
				err := within(t, "the handler of errors", reported)
				away := 0
				if m := awayText.FindStringSubmatch(err.Error()); m != nil {
					away, _ = strconv.Atoi(m[1])
				} else {
					t.Errorf("reported %v", err)
				}
				w.records.mu.Lock()
				n := len(w.records.records)
				w.records.mu.Unlock()
				// What was written and lost with a closed connection has never been a call.
				if n < 1500 || away == 0 || n+away > written {
					t.Errorf("%d recorded and %d turned away of %d", n, away, written)
				}
				must(t, calls["unary"](t.Context(), w.as(friendID)))
			})
		}
	}
}
