package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
)

// paths are methods written in ways that have opened doors elsewhere. The teller may call Pay, and nothing that looks like it.
func (d *day) paths(ctx context.Context) error {
	source, err := d.bank.source(ctx, "teller")
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range []struct{ what, path string }{
		{"an unknown service", "/bank.v1.VaultService/Open"},
		{"an unknown method", "/bank.v1.PaymentService/PayAll"},
		{"no slash in front", "bank.v1.PaymentService/Pay"},
		{"two slashes in front", "//bank.v1.PaymentService/Pay"},
		{"a slash at the end", "/bank.v1.PaymentService/Pay/"},
		{"another case", "/bank.v1.PaymentService/pay"},
		{"a query", "/bank.v1.PaymentService/Pay?admin=1"},
		{"a percent escape", "/bank.v1.PaymentService/%50ay"},
		{"a way out and back in", "/bank.v1.AdminService/../bank.v1.PaymentService/Pay"},
		{"a NUL", "/bank.v1.PaymentService/Pay\x00"},
	} {
		traceID, traceparent := newTrace()
		callErr := d.raw(source, p.path, traceparent)
		if errors.Is(callErr, errMalformed) {
			// HTTP/2 itself does not take such a header: there is no call.
			d.table.add(row{who: domain + "teller", what: fmt.Sprintf("%s: %q", p.what, p.path), want: "malformed", got: "malformed", why: "HTTP/2 refuses the header"})
			continue
		}
		errs = append(errs, d.settle(ctx, d.bank.processes["payment"], attempt{
			id: domain + "teller", what: fmt.Sprintf("%s: %s", p.what, p.path), want: "PermissionDenied", why: "rule: no-rule",
		}, traceID, 0, callErr))
	}
	return errors.Join(errs...)
}

var errMalformed = errors.New("malformed")

// raw makes a call frame by frame, since no gRPC client would write such paths.
func (d *day) raw(source identity.Source, path, traceparent string) error {
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	c, err := tls.Dial("tcp", d.bank.processes["payment"].addr, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{{PrivateKey: svid.PrivateKey, Certificate: [][]byte{svid.Certificates[0].Raw}}},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "payment"}, {"content-type", "application/grpc"},
		{"te", "trailers"}, {"traceparent", traceparent},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true,
	}), framer.WriteData(1, true, []byte{0, 0, 0, 0, 0})); err != nil {
		return err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					code, err := strconv.Atoi(h.Value)
					return errors.Join(err, status.Error(codes.Code(code), "raw"))
				}
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return errMalformed
		}
	}
}
