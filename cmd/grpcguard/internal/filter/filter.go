// Package filter chooses entries of a journal by what they say.
package filter

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	"github.com/grpcguard/grpcguard/policy"
)

// Filter says which entries are meant: those that fulfil each field that is set. The zero Filter takes everything. Its JSON form is part
// of an export's manifest, so that the same entries can be chosen again.
type Filter struct {
	// From and To bound the time, the first inclusively.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	// Caller is a SPIFFE ID, or a pattern of them as policies have it.
	Caller string `json:"caller,omitempty"`
	// Method is a full method, or the part behind its last slash.
	Method string `json:"method,omitempty"`
	// Accounts and Transactions are values any of which will do: a sensitive one appears in records in another form.
	Accounts     []string `json:"account,omitempty"`
	Transactions []string `json:"transaction,omitempty"`
	Outcome      string   `json:"outcome,omitempty"`
	Type         string   `json:"type,omitempty"`
	Call         string   `json:"call,omitempty"`
	Trace        string   `json:"trace,omitempty"`
}

// Matcher is a Filter that was checked.
type Matcher struct {
	filter  Filter
	pattern policy.Pattern // of Caller, where it has a wildcard
	needles [][][]byte     // of each one must be in the record's bytes
	records bool           // only audit records can match
}

// Compile checks a filter.
func (f Filter) Compile() (*Matcher, error) {
	m := &Matcher{filter: f}
	if strings.Contains(f.Caller, "*") {
		var err error
		if m.pattern, err = policy.ParsePattern(f.Caller); err != nil {
			return nil, err
		}
	} else {
		m.need(f.Caller)
	}
	m.need(f.Method)
	m.need(f.Accounts...)
	m.need(f.Transactions...)
	m.need(f.Outcome)
	m.need(f.Call)
	m.need(f.Trace)
	m.records = len(m.needles) > 0 || f.Caller != ""
	return m, nil
}

// need adds texts one of which lies in every record that matches, since records hold texts as they are. Most records of a large journal
// are passed over by this, undecoded.
func (m *Matcher) need(texts ...string) {
	if len(texts) == 0 || texts[0] == "" {
		return
	}
	needle := make([][]byte, 0, len(texts))
	for _, t := range texts {
		needle = append(needle, []byte(t))
	}
	m.needles = append(m.needles, needle)
}

// Match decodes a record that is meant; it is not ok if the record is not.
func (m *Matcher) Match(r journal.Record) (e entry.Entry, ok bool) {
	for _, one := range m.needles {
		if !slices.ContainsFunc(one, func(needle []byte) bool { return bytes.Contains(r.Data, needle) }) {
			return entry.Entry{}, false
		}
	}
	if m.filter.Type != "" {
		if _, t := entry.Head(r); string(t) != m.filter.Type && t != entry.Foreign {
			return entry.Entry{}, false
		}
	}
	e = entry.Decode(r)
	return e, m.matches(&e)
}

func (m *Matcher) matches(e *entry.Entry) bool {
	f := &m.filter
	if f.Type != "" && string(e.Type) != f.Type || m.records && !e.IsRecord() {
		return false
	}
	if (f.From != nil || f.To != nil) && !m.inTime(e.Time()) {
		return false
	}
	r := &e.Record
	switch {
	case f.Caller != "" && !m.caller(r.Caller),
		f.Method != "" && !method(r.Method, f.Method),
		f.Outcome != "" && string(r.Outcome) != f.Outcome,
		f.Call != "" && r.ID.CallID() != f.Call,
		f.Trace != "" && r.TraceID != f.Trace,
		len(f.Transactions) > 0 && !slices.Contains(f.Transactions, r.Transaction.ID),
		len(f.Accounts) > 0 && !slices.Contains(f.Accounts, r.Transaction.FromAccount) && !slices.Contains(f.Accounts, r.Transaction.ToAccount):
		return false
	}
	return true
}

func (m *Matcher) inTime(t time.Time) bool {
	return !t.IsZero() && (m.filter.From == nil || !t.Before(*m.filter.From)) && (m.filter.To == nil || t.Before(*m.filter.To))
}

func (m *Matcher) caller(caller string) bool {
	if m.pattern.String() == "" {
		return caller == m.filter.Caller
	}
	id, err := spiffeid.FromString(caller)
	return err == nil && m.pattern.Match(id)
}

func method(full, want string) bool {
	if strings.Contains(want, "/") {
		return strings.TrimPrefix(full, "/") == strings.TrimPrefix(want, "/")
	}
	return full[strings.LastIndexByte(full, '/')+1:] == want
}

// Types and Outcomes are what -type and -outcome can be.
var (
	Types = []string{
		string(audit.TypeCall), string(audit.TypeIntent), string(audit.TypeAnswered), string(audit.TypeOutcome), string(audit.TypeDenials),
		string(audit.TypeEvent), string(entry.Journal), string(entry.Foreign),
	}
	Outcomes = []string{
		string(audit.OutcomeOK), string(audit.OutcomeDenied), string(audit.OutcomeFailed), string(audit.OutcomePanicked),
		string(audit.OutcomeUnread), string(audit.OutcomeDegraded),
	}
)
