package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// messages are orders that break the rules written beside their fields.
func (d *day) messages(ctx context.Context) error {
	const invalid = "InvalidArgument"
	negative := order(-424242)
	self := &bankv1.PayRequest{Transfer: transfer("tx-self", "acc-alice", "acc-alice", 1)}
	malformed := &bankv1.PayRequest{Transfer: transfer("tx-odd", "acc-alice'; drop table", "acc-bob", 1)}
	huge := &bankv1.PayRequest{Transfer: transfer("tx-huge", strings.Repeat("x", 5000), "acc-bob", 1)}
	ask := func(account string) *bankv1.WatchBalancesRequest {
		return &bankv1.WatchBalancesRequest{Account: account}
	}
	good, bad := &bankv1.UploadBatchRequest{Transfer: order(1).GetTransfer()}, &bankv1.UploadBatchRequest{Transfer: negative.GetTransfer()}
	return errors.Join(
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: negative, what: "a negative amount", want: invalid, why: "transfer.positive", check: names("transfer", "424242")}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: self, what: "an account pays itself", want: invalid, why: "transfer.accounts_differ", check: names("transfer", "acc-alice")}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: malformed, what: "an injection in an account", want: invalid, why: "transfer.from_account", check: names("transfer.from_account", "drop table")}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: &bankv1.PayRequest{}, what: "an order without a transfer", want: invalid, why: "required", check: names("transfer", "\x00")}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: huge, what: "an order of 5 kB, where 4 are allowed", want: "ResourceExhausted", why: "request-too-large"}),
		d.stream(ctx, attempt{who: "teller", to: "payment", method: batch, what: "a batch whose second order is bad", want: invalid, why: "transfer.positive", check: names("transfer", "424242")}, good, bad, good),
		d.stream(ctx, attempt{who: "teller", to: "account", method: watch, what: "a bad account in a live stream", want: invalid, why: "account", check: names("account", "../etc")}, ask("acc-bob"), ask("../etc/passwd")),
	)
}

// names checks that the error names the field that is wrong, and holds nothing of its value.
func names(field, value string) func(error) string {
	return func(err error) string {
		if text := prototext.Format(status.Convert(err).Proto()); strings.Contains(text, value) {
			return fmt.Sprintf("the value is in the error: %s", text)
		}
		for _, detail := range status.Convert(err).Details() {
			if bad, ok := detail.(*errdetails.BadRequest); ok {
				for _, v := range bad.GetFieldViolations() {
					if v.GetField() == field {
						return ""
					}
				}
			}
		}
		return fmt.Sprintf("no google.rpc.BadRequest names %s", field)
	}
}
