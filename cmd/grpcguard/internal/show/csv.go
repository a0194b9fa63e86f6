package show

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"time"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
)

// CSVHeader is the first line of CSV. The columns are the fields of a record; data is what is no audit record, in base64.
const CSVHeader = "index,id,type,time,side,service,method,kind,caller,caller_serial,trust_domain,address,end_user,callee,decision,rule,reason," +
	"stage,outcome,code,duration_ns,received,sent,received_bytes,sent_bytes,trace_id,span_id,request_id,policy_revision,policy_hash," +
	"transaction_id,amount,currency,minor_units,from_account,to_account,messages,event,subject,count,detail,cut,data\n"

// decimal is what an amount is: it may begin with a minus and is no formula all the same.
var decimal = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// AppendCSV appends an entry as one line of CSV.
func AppendCSV(b []byte, e *entry.Entry) []byte {
	r, t := &e.Record, &e.Record.Transaction
	var id, at, code, cut, minor, data string
	if e.IsRecord() {
		id = r.ID.String()
	} else {
		data = base64.StdEncoding.EncodeToString(e.Data)
	}
	if when := e.Time(); !when.IsZero() {
		at = when.UTC().Format(time.RFC3339Nano)
	}
	if r.Outcome != "" {
		code = r.Code.String()
	}
	if r.Cut {
		cut = "true"
	}
	if t.MinorUnits {
		minor = "true"
	}
	b = strconv.AppendUint(b, e.Index, 10)
	cells := [...]string{
		id, string(e.Type), at, string(r.Side), r.Service, r.Method, r.Kind, r.Caller, r.CallerSerial, r.TrustDomain, r.Address, r.EndUser,
		r.Callee, r.Decision, r.Rule, r.Reason, r.Stage, string(r.Outcome), code, number(uint64(r.Duration)), number(r.Received), number(r.Sent),
		number(r.ReceivedBytes), number(r.SentBytes), r.TraceID, r.SpanID, r.RequestID, r.PolicyRevision, r.PolicyHash,
		t.ID, t.Amount, t.Currency, minor, t.FromAccount, t.ToAccount, number(r.Messages), string(r.Event), r.Subject, number(r.Count),
		r.Detail, cut, data,
	}
	for i, cell := range cells {
		b = append(b, ',')
		if i != 30 || !decimal.MatchString(cell) {
			cell = csvText(cell)
		}
		b = appendCSV(b, cell)
	}
	return append(b, '\n')
}
