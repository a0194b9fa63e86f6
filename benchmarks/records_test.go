package main

import "testing"

func TestTheRecordIsARealOne(t *testing.T) {
	t.Parallel()
	if n := len(encoded); n < 500 || n > 600 {
		t.Errorf("the record has %d bytes", n)
	}
}
