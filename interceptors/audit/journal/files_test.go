package journal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A folder that was just made is in its parent for good only once the parent is synced, however many were made.
func TestMakeDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	var synced []string
	sync := func(dir string) error {
		name, err := filepath.Rel(base, dir)
		synced = append(synced, name)
		return err
	}
	deep := filepath.Join(base, "a", "b", segmentDir)
	check(t, makeDir(deep, sync))
	if want := []string{".", "a", "a/b"}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	if info, err := os.Stat(deep); err != nil || !info.IsDir() {
		t.Error(err)
	}
	synced = nil
	check(t, makeDir(deep, sync))
	if len(synced) > 0 {
		t.Errorf("synced %q for nothing new", synced)
	}
}
