package interceptors_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// killed is set in the process that is killed. It says which round this is.
const killed = "GRPCGUARD_KILLED_ROUND"

// killedBank is a process whose callers pay until it is killed. It prints which transfers its handlers saw, and which of them its callers
// were told went well: what it has printed is out, whatever becomes of it.
func killedBank(t *testing.T, round string) {
	t.Helper()
	b := newBank(t, openSink(t, "."))
	b.transfers.asking(func(_ context.Context, tr *pb.Transfer) error {
		_, err := fmt.Println("ran", tr.GetId())
		return err
	})
	var callers sync.WaitGroup
	for kind := range pay {
		for caller := range 4 {
			callers.Go(func() {
				for n := 0; ; n++ {
					id := fmt.Sprintf("%s/%s/%d/%d", round, strings.ReplaceAll(kind, " ", "-"), caller, n)
					if err := pay[kind](t.Context(), b.client, transfer(id)); err != nil {
						fmt.Println("error", err)
						return
					}
					fmt.Println("answered", id)
				}
			})
		}
	}
	callers.Wait()
}

// A service is killed again and again under load. Every transfer that a handler saw has its intent in the journal, and every one that a
// caller was told of its outcome, each behind its intent. GRPCGUARD_KILLS says how often; 50 times if it is not set.
func TestAKilledBankLosesNothing(t *testing.T) {
	if round := os.Getenv(killed); round != "" {
		killedBank(t, round)
		return
	}
	t.Parallel()
	rounds := 50
	if n, err := strconv.Atoi(os.Getenv("GRPCGUARD_KILLS")); err == nil {
		rounds = n
	}
	dir := t.TempDir()
	from, open := uint64(0), 0
	for round := range rounds {
		ran, answered := killOnce(t, dir, round)
		sink := openSink(t, dir)
		intents, outcomes := make(map[string]string), make(map[string]bool) // transfers by ID, and calls
		for r, err := range sink.Journal().Records(from) {
			must(t, err)
			record, err := audit.ParseRecord(r.Data)
			must(t, err)
			call := record.ID.CallID()
			if record.Type == audit.TypeIntent {
				intents[record.Transaction.ID] = call
			}
			if record.Type == audit.TypeOutcome {
				if intents[record.Transaction.ID] != call || record.Outcome != audit.OutcomeOK {
					t.Fatalf("round %d: %+v has no intent before it", round, record)
				}
				outcomes[call] = true
			}
		}
		for _, id := range ran {
			if intents[id] == "" {
				t.Fatalf("round %d: a handler saw %s, and there is no intent", round, id)
			}
		}
		for _, id := range answered {
			if !outcomes[intents[id]] {
				t.Fatalf("round %d: a caller was told of %s, and there is no outcome", round, id)
			}
		}
		open += len(intents) - len(outcomes)
		from = sink.Journal().Size()
		must(t, sink.Close())
	}
	_, verifier := journalKeys(t)
	report, err := journal.Verify(t.Context(), dir, verifier, journal.VerifyOptions{})
	must(t, err)
	t.Logf("%d kills, %d records, %d intents were left open", rounds, report.Checkpoint.Size, open)
	if open == 0 && rounds >= 50 {
		t.Error("no kill came between an intent and its outcome, which is what this is about")
	}
}

// killOnce starts a bank and kills it after so many lines as chance has it. It returns the transfers that were run and answered.
func killOnce(t *testing.T, dir string, round int) (ran, answered []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestAKilledBankLosesNothing$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), killed+"="+strconv.Itoa(round))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines, rest := bufio.NewScanner(out), 1+rand.IntN(400)
	for lines.Scan() {
		what, id, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "ran":
			ran = append(ran, id)
		case "answered":
			answered = append(answered, id)
		default:
			t.Errorf("round %d: %s", round, lines.Text())
		}
		if rest--; rest == 0 {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || rest > 0 {
		t.Fatalf("round %d: it ended by itself: %v", round, err)
	}
	return ran, answered
}
