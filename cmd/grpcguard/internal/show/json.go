package show

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// AppendJSON appends an entry as one line: its index, and under "record" what audit.AppendJSON makes of an audit record. What the
// journal wrote itself is under "pruned", and bytes that are no audit record are in base64 under "data".
func AppendJSON(b []byte, e *entry.Entry) ([]byte, error) {
	b = append(b, `{"index":`...)
	b = strconv.AppendUint(b, e.Index, 10)
	switch e.Type {
	case entry.Journal:
		pruned, err := json.Marshal(e.Pruned)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		b = append(b, `,"pruned":`...)
		b = append(b, pruned...)
	case entry.Foreign:
		b = append(b, `,"data":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Data)
		b = append(b, '"')
	default:
		var err error
		b = append(b, `,"record":`...)
		if b, err = audit.AppendJSON(b, &e.Record); err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
	}
	return append(b, "}\n"...), nil
}
