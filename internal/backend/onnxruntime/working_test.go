package onnxruntime

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// zeros returns a checkpoint of zeros.
func zeros(t *testing.T, wants []checkpoint.Want) *checkpoint.File {
	t.Helper()
	var specs []checkpoint.Spec
	for _, w := range wants {
		specs = append(specs, checkpoint.Spec{Name: w.Name, DType: tensor.F32, Shape: w.Shape})
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "zeros.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = checkpoint.WriteSafetensors(out, nil, specs, func(i int, w io.Writer) error {
		_, err := w.Write(make([]byte, specs[i].Size()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.Open(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestWorking compares the estimate of the memory that each graph of the UNet and the VAE
// works in with the arena's own count of what was in use at most, which is the same in
// every run. On a CPU the VAE's decoder takes less than estimated, because ONNX Runtime adds
// there in place of a convolution's result.
func TestWorking(t *testing.T) {
	backendtest.SkipShort(t)
	b := open(t)
	cpu := backend.Device{ID: "cpu"}
	target := network.For(Name, cpu, tensor.F32)
	unet := network.UNetConfig{Channels: []int{64, 128, 128}, Layers: 1, In: 13, Out: 4, AudioDim: 64, Heads: 8, Positions: 24}
	u, err := network.NewUNet(unet, network.UNetShape{Batch: 1, Frames: 8, Latent: 32, Tokens: 50}, zeros(t, network.UNetWants(unet)), target)
	if err != nil {
		t.Fatal(err)
	}
	graphs := u.Graphs[1:] // the first one is a convolution, whose copies in ONNX Runtime's own layout are not counted
	museTalk := network.UNetConfig{Channels: []int{64, 128, 128}, Layers: 1, In: 8, Out: 4, AudioDim: 64, Heads: 8}
	more, err := network.MuseTalkUNet(museTalk, network.MuseTalkShape{Frames: 4, Height: 32, Width: 32, Tokens: 50}, zeros(t, network.UNetWants(museTalk)), target)
	if err != nil {
		t.Fatal(err)
	}
	graphs = append(graphs, more...)
	vae := network.VAEConfig{Channels: []int{32, 64, 64}, Layers: 1, Latent: 4}
	weights := zeros(t, network.VAEWants(vae))
	for _, images := range []int{1, 3} {
		encoder, err := network.VAEEncoder(vae, images, 128, 128, weights, target)
		if err != nil {
			t.Fatal(err)
		}
		decoder, err := network.VAEDecoder(vae, images, 32, 32, weights, target)
		if err != nil {
			t.Fatal(err)
		}
		graphs = append(graphs, encoder, decoder)
	}
	for _, g := range graphs {
		measured := inUse(t, b, g)
		estimate := network.Working(g, cpu)
		ratio := float64(estimate) / float64(measured)
		t.Logf("%-12s %6.2f MiB in use, estimate %6.2f MiB: %.2f", g.Name(), float64(measured)/(1<<20), float64(estimate)/(1<<20), ratio)
		if ratio < 0.94 || ratio > 1.2 {
			t.Errorf("%s: %d bytes are in use, the estimate is %d", g.Name(), measured, estimate)
		}
	}
}

// inUse returns the most memory of the arena that was in use while a graph ran, without
// what was in use before.
func inUse(t *testing.T, b *Backend, g *onnx.Graph) int64 {
	t.Helper()
	loaded, err := b.Load(t.Context(), backend.Model{Name: g.Name(), Graph: g}, backend.Options{Device: "cpu", Threads: 1, Arena: backend.Arena{Growth: backend.GrowExact}})
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	s := loaded.(*session)
	before, _, ok := s.arena.stats()
	in := map[string]*tensor.Tensor{}
	for _, p := range s.Inputs() {
		in[p.Name] = tensor.New(p.DType, p.Shape...)
	}
	if _, err := s.Run(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, most, _ := s.arena.stats()
	if !ok {
		t.Fatal("the arena does not count")
	}
	return most - before
}
