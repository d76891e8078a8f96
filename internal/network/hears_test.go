package network

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestHears checks that frames that skip the attention to their audio get, to the bit, what
// they get from audio of zeros, and that the others do not notice.
func TestHears(t *testing.T) {
	const frames, side = 4, 16
	weights := open(t, "models/latentsync_unet.pt")
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		noiseOf := func(hears bool, in Flow) *tensor.Tensor {
			u, err := NewUNet(tinyUNet(), UNetShape{Batch: 2, Frames: frames, Latent: side, Tokens: 50, Hears: hears}, weights, to)
			if err != nil {
				t.Fatal(err)
			}
			flow := Flow{"sample": noise(1, 2*frames, 13, side, side), "time": TimeEmbedding(501, 32)}
			for name, v := range in {
				flow[name] = v
			}
			runAll(t, b, flow, u.Graphs...)
			return flow["noise"]
		}
		for heard := range 3 { // of two windows
			all := tensor.New(tensor.F32, 2*frames, 50, 64)
			copy(all.F32(), noise(2, heard*frames, 50, 64).F32())
			want := noiseOf(false, Flow{"audio": all})
			n := tensor.New(tensor.I64, 1)
			binary.NativeEndian.PutUint64(n.Data, uint64(heard*frames))
			if got := noiseOf(true, Flow{"audio": all, "hears": n}); !bytes.Equal(got.Data, want.Data) {
				t.Errorf("%d of 2 windows hear: other noise", heard)
			}
		}
	})
}
