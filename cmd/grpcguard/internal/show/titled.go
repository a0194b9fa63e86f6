package show

import (
	"fmt"
	"io"
	"strings"
)

// Titled writes a report of lines that each have a title. After an error it writes nothing more.
type Titled struct {
	w   io.Writer
	err error
}

// NewTitled returns a report to w.
func NewTitled(w io.Writer) *Titled { return &Titled{w: w} }

// Linef writes a line. What follows a line break in it stands below what is before.
func (t *Titled) Linef(title, format string, args ...any) {
	if t.err == nil {
		text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 13))
		_, t.err = fmt.Fprintf(t.w, "%-12s %s\n", title, text)
	}
}

// Err returns the first error.
func (t *Titled) Err() error { return t.err }

// Count returns a number of things, such as "1 record" or "2 records".
func Count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
