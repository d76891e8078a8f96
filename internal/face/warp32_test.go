package face

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
	exactness "github.com/lipstream/lipstream/internal/golden"
)

// float32Golden holds results of the original's alignment with torch 2.15 and kornia 0.8.0
// on a CPU, which reproduced the golden sets bit for bit.
type float32Golden struct {
	Points   [][6]float64        // three points each, among them mirrored ones and lines
	Matrices [][6]float32        // of resolution 256, without history
	Crops    map[string][]string `json:"crop_sha256"`     // of RGB bytes before Lanczos, of the ten frames
	E2E      map[int]string      `json:"e2e_crop_sha256"` // of the inputs of e2e/
}

func readFloat32(t *testing.T) (g float32Golden) {
	t.Helper()
	b, err := os.ReadFile("testdata/align/float32.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func elements(m frame.Affine) [6]float32 {
	return [6]float32{float32(m.A), float32(m.B), float32(m.C), float32(m.D), float32(m.E), float32(m.F)}
}

func affine(v []float32) frame.Affine {
	return frame.Affine{
		A: float64(v[0]), B: float64(v[1]), C: float64(v[2]),
		D: float64(v[3]), E: float64(v[4]), F: float64(v[5]),
	}
}

func sum(p *frame.RGB) string {
	s := sha256.Sum256(p.Pix)
	return hex.EncodeToString(s[:])
}

// TestMatrixBits compares the matrices bit by bit.
func TestMatrixBits(t *testing.T) {
	g := readFloat32(t)
	for i, p := range g.Points {
		got := elements(NewAligner(256).Matrix(Anchors{{p[0], p[1]}, {p[2], p[3]}, {p[4], p[5]}}))
		if got != g.Matrices[i] {
			t.Errorf("%v: %v, want %v", p, got, g.Matrices[i])
		}
	}
}

// TestWarpBits compares the crops before Lanczos bit by bit, with the original's matrices
// and with ours.
func TestWarpBits(t *testing.T) {
	want := readFloat32(t)
	g := readGolden(t, "align/align.safetensors")
	pic := readPNG(t, "align/picture.png")
	for set, r := range map[string]int{"fp32": 256, "fp32_512": 512} {
		a := NewAligner(r)
		for i, m := range goldenMatrices(t, g, a) {
			for whose, m := range map[string]frame.Affine{"our": m, "the original's": affine(g[set+".matrices"].data[6*i:])} {
				if sum(a.warp(pic, m)) != want.Crops[set][i] {
					t.Errorf("%s frame %d by %s matrix: the crop differs", set, i, whose)
				}
			}
		}
	}
}

// TestEndToEndBits compares the alignment of the frames of the end-to-end goldens.
func TestEndToEndBits(t *testing.T) {
	const e2e = "../../../testdata/latentsync/e2e/"
	want := readFloat32(t)
	lm := readGolden(t, e2e+"landmarks.safetensors")["landmarks106_float"]
	for set, r := range map[string]int{"r128_g15_mean": 128, "r256_g15_mean": 256} {
		matrices := readGolden(t, e2e+set+".safetensors")["matrices"].data
		a := NewAligner(r)
		for i := range lm.shape[0] {
			p := make([][2]float64, 106)
			for k := range p {
				at := 2 * (106*i + k)
				p[k] = [2]float64{float64(lm.data[at]), float64(lm.data[at+1])}
			}
			m := a.Matrix(Anchors(exactness.Anchors106(p)))
			if got := elements(m); got != [6]float32(matrices[6*i:6*i+6]) {
				t.Errorf("%s frame %d: %v, want %v", set, i, got, matrices[6*i:6*i+6])
			}
			if s, ok := want.E2E[i]; ok && r == 128 && sum(a.warp(readPNG(t, fmt.Sprintf("%sframes/in_%02d.png", e2e, i)), m)) != s {
				t.Errorf("%s frame %d: the crop differs", set, i)
			}
		}
	}
}

// TestRestoreBits restores the same face as the original, so that only the restore can
// differ.
func TestRestoreBits(t *testing.T) {
	g := readGolden(t, "align/align.safetensors")
	small := g["known_face_resized_280x210"].data
	for _, i := range []int{0, 7, 9} {
		pic := readPNG(t, "align/picture.png")
		restoreRGB(NewAligner(256), pic, small, affine(g["fp32.matrices"].data[6*i:]))
		name := fmt.Sprintf("align/fp32/restored_%02d.png", i)
		within(t, name, pic.Pix, readPNG(t, name).Pix, 1e-5)
	}
}

// within fails the test if a larger share than limit of the values differ, or one by more
// than a level.
func within(t *testing.T, name string, got, want []byte, limit float64) {
	t.Helper()
	diff := 0
	for i := range got {
		switch d := int(got[i]) - int(want[i]); d {
		case 0:
		case -1, 1:
			diff++
		default:
			t.Fatalf("%s: value %d is %d, want %d", name, i, got[i], want[i])
		}
	}
	t.Logf("%s: %d of %d values differ", name, diff, len(got))
	if float64(diff) > limit*float64(len(got)) {
		t.Errorf("%s: %d of %d values differ, want at most a share of %g", name, diff, len(got), limit)
	}
}

func TestWarpSingular(t *testing.T) {
	a, pic := NewAligner(256), frame.NewRGB(40, 30)
	crop := a.Crop(pic, a.Matrix(Anchors{{7, 7}, {7, 7}, {7, 7}}))
	for _, v := range crop.Pix {
		if v != 127 {
			t.Fatalf("a face without size: %d, want the fill value 127", v)
		}
	}
	a.Crop(frame.NewRGB(1, 1), a.Matrix(Anchors{{0, 0}, {9, 0}, {4, 9}})) // the smallest image
}
