package freeport

import (
	"testing"
)

// Another process is another open file: its lock does not go by the process.
func TestPortIsGivenToOneProcess(t *testing.T) {
	t.Parallel()
	port := Next()
	if _, free := reserve(port); free {
		t.Errorf("port %d is given twice", port)
	}
	for range 100 {
		if Next() == port {
			t.Errorf("port %d is given twice", port)
		}
	}
}
