package audit

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// JSONLines is a [Sink] that writes each record to an io.Writer as one line of JSON, with one Write a line. What a caller
// chose is escaped: no record can break its line or forge another one, and invalid UTF-8 is replaced. After a Write that
// failed or was short the sink is broken, since what follows could be glued to half a line: it returns that error for good.
// It neither flushes nor syncs nor closes the writer.
type JSONLines struct {
	mu     sync.Mutex
	w      io.Writer
	broken error
}

// NewJSONLines returns a sink that writes to w.
func NewJSONLines(w io.Writer) *JSONLines { return &JSONLines{w: w} }

// Write implements [Sink].
func (s *JSONLines) Write(_ context.Context, r *Record) error {
	line, err := AppendJSON(nil, r)
	if err != nil {
		return err
	}
	return s.line(append(line, '\n'))
}

func (s *JSONLines) line(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if n, err := s.w.Write(line); err != nil {
		s.broken = fmt.Errorf("audit: write record: %w", err)
	} else if n < len(line) {
		s.broken = fmt.Errorf("audit: write record: %w", io.ErrShortWrite)
	}
	return s.broken
}
