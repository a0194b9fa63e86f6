// Package cli is the command line. It uses the standard library's flag package: a dozen commands with a few flags each need no more, and
// a tool that holds others to account should bring little along that would have to be trusted with it.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The exit statuses.
const (
	statusGood     = 0
	statusBad      = 1 // the journal, the proof or the export is not good, or could not be read
	statusUsage    = 2
	statusFindings = 3 // the journal is good, and there is something in it to look at
)

// program is one run.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	poll           time.Duration // how often tail -f looks
}

// Run runs the command line and returns its exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now, poll: 200 * time.Millisecond}
	return p.run(ctx, args)
}

// command is one of "grpcguard audit".
type command struct {
	name string
	args string
	does string // in a line
	help string // the rest of -h, with an example
	// prepare registers the command's flags, and returns what it does with its arguments.
	prepare func(p *program, fs *flag.FlagSet) func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{keygenCommand, verifyCommand, queryCommand, tailCommand, proveCommand, verifyProofCommand, exportCommand}
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errFindings ends a verification whose report tells of something to look at.
var errFindings = errors.New("the journal is good, and there are findings")

// errBad ends a command that has already said what is not good.
var errBad = errors.New("not good")

func (p *program) run(ctx context.Context, args []string) int {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	switch word {
	case "", "help", "-h", "-help", "--help":
		fmt.Fprint(p.stdout, topUsage)
		return statusGood
	case "version", "-version", "--version":
		fmt.Fprintln(p.stdout, version())
		return statusGood
	case "audit":
		return p.audit(ctx, args[1:])
	}
	fmt.Fprintf(p.stderr, "grpcguard: there is no command %q\n\n%s", word, topUsage)
	return statusUsage
}

const topUsage = `usage: grpcguard COMMAND

  audit      prove, search and export a journal of audit records
  version    print the version

"grpcguard audit" lists its commands.
`

func (p *program) audit(ctx context.Context, args []string) int {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	switch word {
	case "", "help", "-h", "-help", "--help":
		fmt.Fprint(p.stdout, auditUsage())
		return statusGood
	}
	for _, c := range commands() {
		if c.name == word {
			return p.command(ctx, c, args[1:])
		}
	}
	fmt.Fprintf(p.stderr, "grpcguard audit: there is no command %q\n\n%s", word, auditUsage())
	return statusUsage
}

func auditUsage() string {
	var b strings.Builder
	b.WriteString("usage: grpcguard audit COMMAND [FLAGS] ...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-14s %s\n", c.name, c.does)
	}
	b.WriteString(`
No command but keygen writes anything but what it is asked for, and the service may have the journal open.
"grpcguard audit COMMAND -h" says more.

exit status: 0 good; 1 the journal, proof or export is not good, or cannot be read; 2 wrong usage;
3 the journal is good, and verify found something to look at, such as open intents
`)
	return b.String()
}

func (p *program) command(ctx context.Context, c command, args []string) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	run := c.prepare(p, fs)
	rest, err := parse(fs, args)
	if err == nil {
		err = run(ctx, rest)
	}
	var wrong usageError
	switch {
	case err == nil:
		return statusGood
	case errors.Is(err, flag.ErrHelp):
		p.help(c, fs)
		return statusGood
	case errors.Is(err, errFindings):
		return statusFindings
	case errors.Is(err, errBad):
		return statusBad
	case errors.As(err, &wrong):
		fmt.Fprintf(p.stderr, "grpcguard audit %s: %v\nusage: grpcguard audit %s %s\n\"grpcguard audit %s -h\" says more\n", c.name, err, c.name, c.args, c.name)
		return statusUsage
	}
	fmt.Fprintf(p.stderr, "grpcguard audit %s: %v\n", c.name, err)
	return statusBad
}

func (p *program) help(c command, fs *flag.FlagSet) {
	fmt.Fprintf(p.stdout, "usage: grpcguard audit %s %s\n\n%s\n\nflags:\n", c.name, c.args, strings.TrimSpace(c.help))
	fs.SetOutput(p.stdout)
	fs.PrintDefaults()
}

// parse lets flags stand before, between and behind arguments.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{err}
		}
		used := len(args) - fs.NArg()
		if fs.NArg() == 0 {
			return rest, nil
		}
		if used > 0 && args[used-1] == "--" {
			return append(rest, fs.Args()...), nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// version says what this is, as the Go command stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "grpcguard of unknown version"
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = " " + s.Value
		}
	}
	return "grpcguard " + info.Main.Version + revision + " " + info.GoVersion
}

// isTerminal reports whether somebody is looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
