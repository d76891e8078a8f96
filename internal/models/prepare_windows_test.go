package models

import (
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestPrepareWhileOpen: a converted file that a job has mapped cannot be made again; the
// error says so, the job keeps its weights, and afterwards it can.
func TestPrepareWhileOpen(t *testing.T) {
	ownCache(t)
	unet := filepath.Join(sharedSynth(t), "latentsync_unet.pt")
	file, err := Prepare(t.Context(), unet, tensor.F16, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{Force: true})
	wantFault(t, err, fault.Output, "another program may have the file open", "close the program that has the file open")
	if err := f.Finite(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = PrepareWith(t.Context(), unet, tensor.F16, PrepareOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
