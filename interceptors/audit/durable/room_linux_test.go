package durable_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// On a full disk records are taken into memory and then cannot be written. Those that nobody waits for are counted too, and the count is
// kept until there is room for the record of it.
func TestAFullDiskDropsNothingInSilence(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := unix.Mount("none", mount, "tmpfs", 0, "size=400k"); err != nil {
		t.Skipf("a small file system cannot be mounted, so there is no full disk to test on: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	s := open(t, filepath.Join(mount, "journal"), journal.Options{}, durable.Options{})
	const written = 3000
	for n := range written {
		must(t, s.Write(t.Context(), &audit.Record{ID: audit.ID{Guard: 1, Call: uint64(n)}, Type: audit.TypeCall, Class: audit.BestEffort, Detail: strings.Repeat("x", 500)}))
	}
	// What comes behind them is told of when they are decided. There may be room for it where there was none for many.
	if err := s.Write(t.Context(), &audit.Record{Type: audit.TypeCall}); err != nil && !errors.Is(err, journal.ErrFull) {
		t.Fatal(err)
	}
	if s.Dropped() == 0 {
		t.Error("nobody counted what was lost")
	}
	must(t, unix.Mount("none", mount, "tmpfs", unix.MS_REMOUNT, "size=8m"))
	must(t, s.Close())
	s = open(t, s.Journal().Dir(), journal.Options{}, durable.Options{})
	var kept, reported uint64
	for _, r := range records(t, s) {
		switch {
		case r.Event == audit.EventDropped:
			reported += r.Count
		case r.ID.Guard == 1:
			kept++
		}
	}
	must(t, s.Close())
	// The one record of the trouble can be among those that are lost.
	if total := kept + reported; total < written || total > written+1 || reported == 0 {
		t.Errorf("%d kept and %d reported as dropped, of %d", kept, reported, written)
	}
}
