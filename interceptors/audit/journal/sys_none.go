//go:build !unix

package journal

import (
	"errors"
	"os"
)

var errSystem = errors.New("journal: this system has no flock and no fsync of folders")

const inPlace = 0

func lock(string) (*os.File, error) { return nil, errSystem }

func unlock(*os.File) error { return errSystem }

func sameFile(*os.File, string) error { return errSystem }

func noRoom(error) bool { return false }

func datasync(*os.File) error { return errSystem }

func syncTree(string) error { return errSystem }

func readFile([]byte, string, int) ([]byte, error) { return nil, errSystem }
