package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// profileTurns are how many turns a row's side runs while it is profiled, and profileTurn is about how long one is.
const (
	profileTurns = 10
	profileTurn  = 500 * time.Millisecond
)

// profile runs our side of the first row whose name has a part, for some turns, and leaves profiles of it in a folder of its own below dir.
func (b *bench) profile(list []subject, part, dir string, out io.Writer) (err error) {
	var known []string
	for _, s := range list {
		if s.contests == nil {
			continue
		}
		contests, err := s.contests(b)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s.name, err), b.end())
		}
		for _, c := range contests {
			for _, l := range c.lines {
				known = append(known, l.Name)
				if part == "" || !strings.Contains(l.Name, part) {
					continue
				}
				i, err := c.find(l.ours[len(l.ours)-1])
				if err == nil {
					err = b.profileSide(c.sides[i].Side, filepath.Join(dir, "profile", strings.TrimSuffix(fileName(l.Name), ".svg")), out)
				}
				return errors.Join(err, b.end())
			}
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	what := "no row was named"
	if part != "" {
		what = fmt.Sprintf("no row has %q in its name", part)
	}
	return fmt.Errorf("%s; these can be profiled:\n%s", what, strings.Join(known, "\n"))
}

// profileSide runs a side once to warm up, and then under all profiles.
func (b *bench) profileSide(s row.Side, dir string, out io.Writer) (err error) {
	// What is printed is to be copied, whatever folder it is then used in.
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n, err := row.Calibrate(s, b.turn)
	if err != nil {
		return err
	}
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 16 << 10
	runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	runtime.SetMutexProfileFraction(10)
	defer func() {
		runtime.MemProfileRate = rate
		runtime.SetBlockProfileRate(0)
		runtime.SetMutexProfileFraction(0)
	}()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	for range profileTurns {
		if err = s.Run(n); err == nil && s.Settle != nil {
			err = s.Settle()
		}
		if err != nil {
			break
		}
	}
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d operations:\n\ngo tool pprof -http=: %s\n", s.Name, profileTurns*n, cpu.Name())
	for name, flags := range map[string]string{"allocs": " -sample_index=alloc_space", "block": "", "mutex": ""} {
		path := filepath.Join(dir, name+".pprof")
		if err := writeProfile(name, path); err != nil {
			return err
		}
		fmt.Fprintf(out, "go tool pprof -http=:%s %s\n", flags, path)
	}
	return nil
}

func writeProfile(name, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return pprof.Lookup(name).WriteTo(f, 0)
}
