// Package show writes entries of a journal for people and for programs. Much of what records hold was chosen by callers, who may be
// hostile to whatever it is shown in.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxCell is how much of a text a table shows. What a caller may have made long is for the other forms.
const maxCell = 100

// Cell returns a text as a table shows it: as it is if it is plain ASCII without spaces, and otherwise quoted, with everything else
// escaped. So no cell can look like another, like two, or like none, which is "-".
func Cell(s string) string {
	switch {
	case s == "":
		return "-"
	case len(s) > maxCell:
		cut := strconv.QuoteToASCII(s[:maxCell])
		return cut[:len(cut)-1] + `..."`
	case s == "-" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' }):
		return strconv.QuoteToASCII(s)
	}
	return s
}

// Line returns a text as a line for people: as it is if it is plain ASCII, and otherwise quoted.
func Line(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// csvText returns a text as a cell of CSV holds it. Backslashes are doubled, and control characters and those that change the direction
// of text are escaped as in JSON, so that a record is one line and does nothing to a terminal. A text that a spreadsheet would take for a
// formula has an apostrophe before it, and so has one that begins with an apostrophe: who takes one away has the text.
func csvText(s string) string {
	if strings.ContainsFunc(s, escaped) {
		var b strings.Builder
		for _, c := range s {
			switch {
			case c == '\\':
				b.WriteString(`\\`)
			case escaped(c):
				fmt.Fprintf(&b, `\u%04x`, c)
			default:
				b.WriteRune(c)
			}
		}
		s = b.String()
	}
	// Tab and carriage return would count as well, and are escaped by now. The wide forms become the narrow ones in some programs.
	if first, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " ")); strings.ContainsRune("=+-@'＝＋－＠", first) {
		return "'" + s
	}
	return s
}

func escaped(c rune) bool {
	return c < ' ' || c == '\\' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || unicode.In(c, unicode.Bidi_Control)
}

// appendCSV appends a cell, quoted where it must be.
func appendCSV(b []byte, cell string) []byte {
	if !strings.ContainsAny(cell, `",`) && strings.TrimSpace(cell) == cell {
		return append(b, cell...)
	}
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(cell, `"`, `""`)...)
	return append(b, '"')
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
