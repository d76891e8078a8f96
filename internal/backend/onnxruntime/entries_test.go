package onnxruntime

import (
	"context"
	"errors"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestCUDAEntries calls the functions of the table that only a GPU needs, as far as
// they work without one.
func TestCUDAEntries(t *testing.T) {
	b := open(t)
	a := b.api
	var info handle
	if err := a.check(a.createMemoryInfo("Cpu\x00", arenaAllocator, 0, memTypeDefault, &info)); err != nil || info == 0 {
		t.Errorf("CreateMemoryInfo: %v", err)
	} else {
		a.releaseMemoryInfo(info)
	}
	if err := a.check(a.createMemoryInfo("NoSuchDevice\x00", arenaAllocator, 0, memTypeDefault, &info)); err == nil {
		t.Error("CreateMemoryInfo of a made-up device: no error")
	} else {
		t.Log(err)
	}
	if b.cuda {
		t.Skip("this build has CUDA")
	}
	var options, cuda handle
	if err := a.check(a.createCUDAOptions(&cuda)); err == nil {
		t.Log("CreateCUDAProviderOptions works in a build without CUDA")
		defer a.releaseCUDAOptions(cuda)
	} else {
		t.Log(err)
	}
	if err := a.check(a.createSessionOptions(&options)); err != nil {
		t.Fatal(err)
	}
	defer a.releaseSessionOptions(options)
	err := b.appendCUDA(options, 0, backend.Options{})
	if err == nil {
		t.Error("a build without CUDA has the CUDA provider")
	}
	t.Log(err)
}

// TestLoadCancelled cancels the context while the library optimises a graph of many
// nodes.
func TestLoadCancelled(t *testing.T) {
	b := open(t)
	var g backendtest.Graph
	last := "x"
	for i := range 20_000 {
		next := "v" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/26/26%26)) + string(rune('a'+i/26/26/26))
		g.Node("Relu", []string{last}, []string{next})
		last = next
	}
	g.Node("Identity", []string{last}, []string{"y"})
	g.Input("x", tensor.F32, -1)
	g.Output("y", tensor.F32, -1)
	m := backend.Model{Name: "many nodes", Bytes: g.Bytes()}

	ctx, cancel := context.WithCancel(t.Context())
	stop := backendtest.WhenBusy(t, cancel)
	s, err := b.Load(ctx, m, backend.Options{Device: "cpu"})
	stop()
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
