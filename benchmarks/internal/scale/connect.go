package scale

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

// connect opens a connection to address as a workload of its own, makes one call on it, and leaves it open. The caller's end is as
// small as can be, TLS alone, so that what is measured is the server's.
func (w *world) connect(ctx context.Context, address string, n int) (net.Conn, error) {
	svid, err := w.authority.MintX509SVID(id(fmt.Sprintf("/fleet/workload-%d", n)))
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	// A connection that is closed leaves nothing in the kernel, which would run out of ports.
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, SessionTicketsDisabled: true,
		Certificates:       []tls.Certificate{{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}},
		InsecureSkipVerify: true, // This end is nobody's to protect; the server's verification is what is measured.
	})
	if err := call(c); err != nil {
		return nil, errors.Join(fmt.Errorf("scale: connection %d: %w", n, err), raw.Close())
	}
	return c, nil
}

// call makes one unary call on a fresh connection and reads its answer to the end.
func call(c net.Conn) error {
	body, err := proto.Marshal(&benchv1.TransferPlainRequest{TransactionId: "tx-1", Amount: 1})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "https"},
		{":path", benchv1.TransferService_TransferPlain_FullMethodName},
		{":authority", "server"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"grpc-timeout", "5S"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	err = errors.Join(f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true}), f.WriteData(1, true, message))
	if err == nil {
		_, err = c.Write(out.Bytes())
	}
	if err != nil {
		return err
	}
	return answer(f, &out, c)
}

// answer reads frames until the call has ended, and is an error unless it ended well.
func answer(f *http2.Framer, out *bytes.Buffer, c net.Conn) error {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err
		}
		out.Reset()
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return outcome(frame)
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("the server answered with %v", frame)
		}
		if err == nil && out.Len() > 0 {
			_, err = c.Write(out.Bytes())
		}
		if err != nil {
			return err
		}
	}
}

func outcome(trailers *http2.MetaHeadersFrame) error {
	for _, h := range trailers.RegularFields() {
		if h.Name == "grpc-status" && h.Value != "0" {
			return fmt.Errorf("the call ended with status %s", h.Value)
		}
	}
	return nil
}
