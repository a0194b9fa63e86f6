package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// full returns a record with a value in every field.
func full(t *testing.T) audit.Record {
	t.Helper()
	r := audit.Record{}
	var fill func(v reflect.Value)
	n := 0
	fill = func(v reflect.Value) {
		for _, f := range v.Fields() {
			n++
			switch f.Interface().(type) {
			case time.Time:
				f.Set(reflect.ValueOf(time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC)))
			case time.Duration, uint64:
				if f.CanInt() {
					f.SetInt(int64(n))
				} else {
					f.SetUint(uint64(n))
				}
			case codes.Code:
				f.Set(reflect.ValueOf(codes.PermissionDenied))
			case audit.Class:
			case bool:
				f.SetBool(true)
			case audit.ID, audit.Transaction:
				fill(f)
			default:
				f.SetString(fmt.Sprintf("text %d", n))
			}
		}
	}
	fill(reflect.ValueOf(&r).Elem())
	return r
}

// The encoding is protobuf's own of the schema, and as short and as ordered as the schema says.
func TestTheEncodingIsProtobufs(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]audit.Record{
		"nothing":         {},
		"everything":      full(t),
		"a code and zero": {Outcome: audit.OutcomeOK, Time: time.Unix(0, 0)},
		"a strange code":  {Outcome: audit.OutcomeFailed, Code: 4711},
		"long texts":      {Method: strings.Repeat("m", 1<<16), Detail: strings.Repeat("d", 1<<20), Transaction: audit.Transaction{ID: strings.Repeat("i", 1<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := audit.AppendRecord(nil, &r)
			var p grpcguardv1.Record
			if err := proto.Unmarshal(b, &p); err != nil {
				t.Fatal(err)
			}
			if len(p.ProtoReflect().GetUnknown()) > 0 {
				t.Errorf("fields that the schema does not have: %x", p.ProtoReflect().GetUnknown())
			}
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(&p)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("protobuf encodes it as\n%x, not as\n%x", again, b)
			}
			back, err := audit.ParseRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			if name != "long texts" {
				r.Time = r.Time.UTC()
				if r != back {
					t.Errorf("got\n%+v, want\n%+v", back, r)
				}
			} else if !back.Cut || len(back.Method) != 1<<10 || len(back.Detail) != 8<<10 {
				t.Errorf("cut %v, method %d bytes, detail %d", back.Cut, len(back.Method), len(back.Detail))
			}
			if len(b) > 0 {
				if id, kind, err := audit.ParseHead(b); err != nil || id != r.ID || kind != r.Type {
					t.Errorf("its head is %v %v %v", id, kind, err)
				}
			}
		})
	}
}

// Every field of the schema is in the encoding and in the JSON form, under its name.
func TestTheJSONIsProtobufs(t *testing.T) {
	t.Parallel()
	r := full(t)
	line, err := audit.AppendJSON([]byte("before "), &r)
	if err != nil {
		t.Fatal(err)
	}
	line, found := bytes.CutPrefix(line, []byte("before "))
	if !found {
		t.Fatalf("%q", line)
	}
	var fromJSON, fromBinary grpcguardv1.Record
	if err := protojson.Unmarshal(line, &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(audit.AppendRecord(nil, &r), &fromBinary); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&fromJSON, &fromBinary) {
		t.Errorf("got\n%v, want\n%v", &fromJSON, &fromBinary)
	}
	m := fromBinary.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); !m.Has(f) {
			t.Errorf("%s is in no record", f.Name())
		}
	}
}

func TestOtherEncodingsAreNoRecords(t *testing.T) {
	t.Parallel()
	r := full(t)
	whole := audit.AppendRecord(nil, &r)
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"a field twice":              {[]byte("\x12\x01a\x12\x01a"), "field 2: comes after field 2"},
		"out of order":               {[]byte("\x1a\x00\x12\x01a"), "field 2: comes after field 3"},
		"an empty text":              {[]byte("\x12\x00"), "field 2: is empty or no UTF-8"},
		"invalid UTF-8":              {[]byte("\x12\x01\xff"), "field 2: is empty or no UTF-8"},
		"a zero":                     {[]byte("\xa0\x01\x00"), "field 20: its number is not as short as it can be"},
		"a long number":              {[]byte("\xa0\x01\x81\x00"), "field 20: its number is not as short as it can be"},
		"a long length":              {[]byte("\x12\x81\x00a"), "field 2: its length is wrong"},
		"a long tag":                 {[]byte("\x92\x00\x01a"), "field 0: the one after it cannot be read"},
		"a length beyond the end":    {[]byte("\x12\x05a"), "field 2: its length is wrong"},
		"a number that should be":    {[]byte("\x10\x01"), "field 2: is no bytes"},
		"bytes that should be none":  {[]byte("\xa2\x01\x01a"), "field 20: is no number"},
		"a group":                    {[]byte("\x13\x14"), "field 2: is neither a number nor bytes"},
		"no ID":                      {[]byte("\x0a\x01a"), "field 1: is no record ID"},
		"an ID in capitals":          {[]byte("\x0a\x22AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.1"), "field 1: is no record ID"},
		"no time":                    {[]byte("\x1a\x02\x20\x01"), "field 3: is no time"},
		"a code without an outcome":  {[]byte("\x9a\x01\x02OK"), "field 19: is there without an outcome"},
		"no code":                    {[]byte("\x92\x01\x01a\x9a\x01\x01a"), `field 19: "a" is no status code`},
		"a flag of two":              {[]byte("\xa0\x02\x02"), "field 36: is 2, and can be 0 or 1"},
		"a transaction out of order": {[]byte("\xf2\x01\x06\x12\x01a\x0a\x01b"), "field 30: audit: not a record in its canonical encoding: field 1: comes after field 2"},
		"half of it":                 {whole[:len(whole)-4], "its length is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := audit.ParseRecord(tt.data)
			if !errors.Is(err, audit.ErrNoRecord) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	// What a newer version of the schema adds is passed over.
	if got, err := audit.ParseRecord(append(bytes.Clone(whole), "\xca\x02\x01a\xd0\x02\x01"...)); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whatever texts hold, the record is valid and not too large, and reads back as it was up to what is cut and replaced.
func FuzzRecord(f *testing.F) {
	f.Add("/a.B/C", "detail", "10.00", []byte("x"))
	f.Add("\xff\xfe", strings.Repeat("\xff", 9000), strings.Repeat("é", 600)+"\xc3", []byte{0xc3, 0x28})
	f.Fuzz(func(t *testing.T, method, detail, amount string, raw []byte) {
		r := audit.Record{ID: audit.ID{Guard: 1, Call: 2, Number: 3}, Type: audit.TypeCall, Method: method, Detail: detail, Transaction: audit.Transaction{Amount: amount}}
		b := audit.AppendRecord(nil, &r)
		if len(b) >= 1<<16 {
			t.Fatalf("%d bytes", len(b))
		}
		back, err := audit.ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []struct{ in, out string }{{method, back.Method}, {detail, back.Detail}, {amount, back.Transaction.Amount}} {
			if !utf8.ValidString(s.out) || (!back.Cut && s.out != strings.ToValidUTF8(s.in, "\uFFFD")) {
				t.Errorf("%q became %q", s.in, s.out)
			}
		}
		if again := audit.AppendRecord(nil, &back); !bytes.Equal(again, b) {
			t.Errorf("encoded again it is\n%x, not\n%x", again, b)
		}
		// What is taken for a record has one encoding.
		if other, err := audit.ParseRecord(raw); err == nil {
			if known := audit.AppendRecord(nil, &other); len(known) == len(raw) && !bytes.Equal(known, raw) {
				t.Errorf("%x reads as %+v, which is %x", raw, other, known)
			}
		}
	})
}

func TestIDs(t *testing.T) {
	t.Parallel()
	id := audit.ID{Guard: 0x0123456789abcdef, Call: 42, Number: 7}
	const text = "0123456789abcdef000000000000002a.7"
	if id.String() != text || id.CallID() != text[:32] {
		t.Errorf("%s %s", id, id.CallID())
	}
	if back, err := audit.ParseID(text); err != nil || back != id {
		t.Errorf("%v %v", back, err)
	}
	for _, bad := range []string{"", "1", text[:32], text[:33], text + "x", strings.ToUpper(text), "0" + text, text[:33] + "07", text[:33] + "-1"} {
		if _, err := audit.ParseID(bad); err == nil || err.Error() != fmt.Sprintf("audit: %q is no record ID", bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
