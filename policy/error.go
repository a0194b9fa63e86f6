package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a policy. [Compile] and [ParseFile] return all that they find, joined; errors.As finds
// the first.
type Error struct {
	// File is the policy file, or the .proto file of the annotation.
	File string
	// Line and Column count from 1. They are 0 where they are not known: generated Go code keeps no lines of its .proto file.
	Line, Column int
	// Subject is the method, service, message or field that the error is about; empty where the position says it all.
	Subject string
	// Option is the option at fault, such as "(grpcguard.v1.method).callers[0]".
	Option string
	// Message says what is wrong.
	Message string
}

// Error puts position, subject, option and message into one line.
func (e *Error) Error() string {
	var parts []string
	at := e.File
	if e.Line > 0 {
		at += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	for _, part := range []string{at, e.Subject, e.Option, e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// problems collects errors, so that all can be mended at once.
type problems []*Error

func (p *problems) addf(at place, format string, args ...any) {
	e := at.Error
	e.Message = fmt.Sprintf(format, args...)
	*p = append(*p, &e)
}

func (p *problems) err() error {
	slices.SortStableFunc(*p, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Option, b.Option), cmp.Compare(a.Message, b.Message),
		)
	})
	errs := make([]error, 0, len(*p))
	for i, e := range *p {
		if i > 0 && *e == *(*p)[i-1] {
			continue
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// place is where something is written; an Error without a message.
type place struct{ Error }

// option returns the place of an option or a part of one.
func (p place) option(format string, args ...any) place {
	p.Option += fmt.Sprintf(format, args...)
	return p
}

// String names the place for records.
func (p place) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	if p.Subject != "" {
		s += ": " + p.Subject
	}
	return s + ": " + p.Option
}

// key tells a place from every other one of a policy.
func (p place) key() string {
	return fmt.Sprintf("%q:%d:%d:%q:%q", p.File, p.Line, p.Column, p.Subject, p.Option)
}

// nearest returns the candidate closest to name, if it is close enough to be what was meant.
func nearest(name string, candidates []string) (string, bool) {
	best, distance := "", max(2, len(name)/4)+1
	for _, c := range candidates {
		if d := editDistance(name, c, distance); d < distance || d == distance && best != "" && c < best {
			best, distance = c, d
		}
	}
	return best, best != ""
}

// suggestion is what follows an unknown name in an error.
func suggestion(name string, candidates []string) string {
	if best, ok := nearest(name, candidates); ok {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

// editDistance is Levenshtein's, given up on at limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
