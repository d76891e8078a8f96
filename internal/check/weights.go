package check

import (
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// random returns n numbers from -1 to 1 that depend only on the name. They are the same
// on every platform.
func random(name string, n int) []float32 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name) // cannot fail
	source := rand.NewPCG(h.Sum64(), 0)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(source.Uint64()>>40)/(1<<23) - 1
	}
	return v
}

// randomWeight returns the values of a tensor of a checkpoint. Matrices have variance
// 1/inputs, so that activations keep their size. Weights of norms are around 1, biases
// around 0.
func randomWeight(w checkpoint.Want) []float32 {
	v := random(w.Name, tensor.Volume(w.Shape))
	scale, add := float32(0.1), float32(0)
	switch {
	case len(w.Shape) > 1:
		scale = float32(math.Sqrt(3 / float64(tensor.Volume(w.Shape[1:]))))
	case strings.HasSuffix(w.Name, ".weight"):
		add = 1
	}
	for i := range v {
		v[i] = float32(scale*v[i]) + add // the conversion prevents a fused operation
	}
	return v
}

// openWeights writes the weights of all cases to a temporary file and opens it. The
// caller must close the file and remove the folder.
func openWeights() (f *checkpoint.File, remove func(), err error) {
	dir, err := os.MkdirTemp("", "lipstream-check-")
	if err != nil {
		return nil, nil, fault.Output.Wrap("create a temporary folder", err, "set "+disk.TempVariable+" to a folder that can be written")
	}
	// Windows does not remove a file that a runtime has not closed. It is of no use to
	// report that.
	remove = func() { _ = os.RemoveAll(dir) }
	path := filepath.Join(dir, "weights.safetensors")
	if err = writeWeights(path); err == nil {
		f, err = checkpoint.Open(path)
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return f, remove, nil
}

func writeWeights(path string) error {
	wants := slices.Concat(network.OperatorWants(), network.UNetWants(tinyUNet), network.VAEWants(tinyVAE), network.WhisperWants(tinyWhisper))
	specs := make([]checkpoint.Spec, len(wants))
	for i, w := range wants {
		specs[i] = checkpoint.Spec{Name: w.Name, DType: tensor.F32, Shape: w.Shape}
	}
	err := disk.Write(path, 0o600, func(w io.Writer) error {
		return checkpoint.WriteSafetensors(w, nil, specs, func(i int, w io.Writer) error {
			_, err := w.Write(tensor.FromF32(randomWeight(wants[i]), wants[i].Shape...).Data)
			return err
		})
	})
	hint := ""
	if disk.IsFull(err) {
		hint = "free some space, or set " + disk.TempVariable + " to another folder"
	}
	return fault.Output.Wrap("write "+path, fault.WithoutPath(err), hint)
}
