package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// record is what the demo reads of a line of a service's records.
type record struct {
	Side     string `json:"side"`
	Outcome  string `json:"outcome"`
	Code     string `json:"code"`
	Method   string `json:"method"`
	Caller   string `json:"caller"`
	Decision string `json:"decision"`
	Rule     string `json:"rule"`
	Reason   string `json:"reason"`
	Stage    string `json:"stage"`
	Detail   string `json:"detail"`
	TraceID  string `json:"trace_id"`
	Event    string `json:"event"`
}

// why says it in a line.
func (r record) why() string {
	switch {
	case r.Outcome == "handshake-refused":
		return "handshake: " + r.Detail
	case r.Stage == "validate":
		return r.Reason + ": " + r.Detail
	case r.Stage != "":
		return r.Stage + ": " + r.Reason
	case r.Outcome != "ok":
		return r.Outcome + ": " + r.Detail
	}
	// The rule's place in the sources is long; which entry of it decided is what tells.
	return r.Reason + ": " + r.Rule[max(0, strings.LastIndex(r.Rule, "callers[")):]
}

func read(path string) ([]record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []record
	lines := bufio.NewScanner(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// events returns the name of the newest event in the records of a process, empty if there is none.
func (p *process) events() (newest string, err error) {
	all, err := read(p.records)
	for _, r := range all {
		if r.Event != "" {
			newest = r.Event
		}
	}
	return newest, err
}

// find waits for the server's record that match picks: a call's record is written as its answer leaves, and that of a refused
// one a moment later.
func (p *process) find(ctx context.Context, match func(record) bool) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := read(p.records)
		if err != nil {
			return record{}, err
		}
		for _, r := range slices.Backward(all) {
			if r.Side == "server" && r.Event == "" && match(r) {
				return r, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return record{Outcome: "no record"}, nil
		}
	}
}
