package main

import (
	"context"
	"errors"
	"strings"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// callers is the segregation of duties: everybody is who they say, and may not do this.
func (d *day) callers(ctx context.Context) error {
	move := &bankv1.ApplyRequest{Transfer: transfer("tx-theft", "acc-alice", "acc-carol", 1)}
	post := &bankv1.PostTransferRequest{Transfer: transfer("tx-theft", "acc-alice", "acc-carol", 1)}
	const denied = "PermissionDenied"
	var errs []error
	for _, a := range []attempt{
		{who: "teller", to: "account", method: apply, message: move, what: "moves money past payment and ledger", want: denied, why: "caller-not-listed"},
		{who: "payment", to: "account", method: apply, message: move, what: "payment moves money past the ledger", want: denied, why: "caller-not-listed"},
		{who: "teller", to: "ledger", method: "/bank.v1.LedgerService/PostTransfer", message: post, what: "teller writes in the ledger", want: denied, why: "caller-not-listed"},
		{who: "payment", to: "admin", method: "/bank.v1.AdminService/GetPolicy", what: "payment calls admin", want: denied, why: "caller-not-listed"},
		{who: "admin", to: "admin", method: "/bank.v1.AdminService/GetPolicy", what: "admin calls itself", want: denied, why: "caller-not-listed"},
		{who: "ledger", to: "payment", method: pay, message: order(1), what: "ledger calls payment", want: denied, why: "caller-not-listed"},
		{who: "auditor", to: "payment", method: pay, message: order(1), what: "the auditor pays", want: denied, why: "caller-not-listed"},
		{who: "auditor", to: "admin", method: "/bank.v1.AdminService/CloseBooks", what: "closes the books, which nobody may", want: denied, why: "method-closed"},
		{who: "branch/7/teller", to: "payment", method: pay, message: order(1), what: "is on the deny list", want: denied, why: "deny-list"},
		{who: "branch/7/x/teller", to: "payment", method: pay, message: order(1), what: "one segment too many for the pattern", want: denied, why: "caller-not-listed"},
		{who: "teller2", to: "payment", method: pay, message: order(1), what: "a name that begins like another", want: denied, why: "caller-not-listed"},
		{who: "teller", to: "payment", method: "/grpc.health.v1.Health/Check", what: "asks for health", want: denied, why: "caller-not-listed"},
		{
			who: "stranger", to: "payment", method: pay, message: order(1), what: "says in metadata that it is the teller", want: denied, why: "caller-not-listed",
			md: []string{"x-forwarded-client-cert", "URI=" + domain + "teller", "x-spiffe-id", domain + "teller", "x-forwarded-for", "127.0.0.1"},
		},
	} {
		a.check = saysNothing
		errs = append(errs, d.call(ctx, a))
	}
	errs = append(errs, d.stream(ctx, attempt{
		who: "operator", to: "payment", method: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", what: "asks for reflection (stream)", want: denied, why: "method-closed",
	}), d.stream(ctx, attempt{
		who: "stranger", to: "payment", method: batch, what: "opens a batch (stream)", want: denied, why: "caller-not-listed",
	}))
	return errors.Join(errs...)
}

// saysNothing checks that a denial tells its caller nothing of the inside.
func saysNothing(err error) string {
	if err == nil {
		return "it was allowed"
	}
	for _, part := range []string{"spiffe", "teller", "caller", "policy", "rule", "list"} {
		if strings.Contains(strings.ToLower(err.Error()), part) {
			return "the error says " + part + ": " + err.Error()
		}
	}
	return ""
}
