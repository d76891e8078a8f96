package bench

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
	"github.com/lipstream/lipstream/testdata/demo"
)

// smallSyncNet has SyncNet's inputs, and one layer for each.
func smallSyncNet(g *onnx.Graph) {
	layer := func(x onnx.Value, from int, name string) {
		weights := make([]float32, 4*from)
		for i := range weights {
			weights[i] = float32(i*i%13-6) / 50
		}
		x = g.Op("Gemm", []onnx.Value{g.Op("Flatten", []onnx.Value{x}, onnx.Int("axis", 1)), g.Floats(weights, from, 4)})
		g.Output(name, x, tensor.F32, 1, 4)
	}
	lip := g.Input("lip", tensor.F32, 1, 3, 5, 224, 224)
	layer(g.Op("AveragePool", []onnx.Value{lip}, onnx.Ints("kernel_shape", 1, 224, 224)), 15, "lip_embedding")
	layer(g.Input("aud", tensor.F32, 1, 1, 13, 20), 260, "aud_embedding")
}

// TestSync measures a video that shows the portrait, and one that flickers, beside another
// face.
func TestSync(t *testing.T) {
	backendtest.SkipShort(t)
	ctx := t.Context()
	tools, err := media.FindTools(ctx)
	if err != nil {
		backendtest.Absent(t, "%v", err)
	}
	nets := sharedtest.Open(t, openvino.Name)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{"full.png": demo.Portrait, "speech.wav": demo.Speech} {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		if _, err := ffmpeg.Run(ctx, tools, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("-i", file("full.png"), "-vf", "scale=320:320", file("face.png"))
	run("-i", file("full.png"), "-vf", "scale=256:320,pad=320:320:32:0", file("narrow.png"))
	// Marked with its matrix, which ffmpeg would else choose by the size.
	video := func(name, filter, seconds string) string {
		run("-loop", "1", "-framerate", "25", "-i", file("face.png"), "-i", file("speech.wav"), "-vf", filter+",scale=out_color_matrix=bt709,format=yuv420p", "-colorspace", "bt709", "-t", seconds,
			"-c:v", "libx264", "-crf", "12", "-preset", "veryfast", "-c:a", "aac", file(name))
		return file(name)
	}
	verdicts := func(r *SyncReport) map[string]string {
		all := map[string]string{}
		for _, f := range r.Figures {
			all[f.Key] = f.Verdict()
			if strings.HasPrefix(f.Key, "flicker") || strings.HasPrefix(f.Key, "identity") || strings.HasPrefix(f.Key, "lse") {
				t.Logf("%s %v", f.Key, f.Value)
			}
		}
		return all
	}
	check := func(got map[string]string, want string, keys ...string) {
		t.Helper()
		for _, k := range keys {
			if v, ok := got[k]; !ok || v != want {
				t.Errorf("%s: %q, want %q", k, v, want)
			}
		}
	}

	options := SyncOptions{
		Video: video("still.mp4", "null", "2.4"), Source: file("face.png"), Length: "pad", Face: "largest", Threads: 1,
		Identity: networkFile(t, randomEmbedding), SyncNet: []string{networkFile(t, smallSyncNet)},
	}
	still, err := measure(ctx, nets, options)
	if err != nil {
		t.Fatal(err)
	}
	got := verdicts(still)
	check(got, "ok", "identity_shape", "identity_ssim", "identity_skin", "identity_border", "flicker_border", "flicker_skin")
	check(got, "", "identity_cosine", "flicker_mouth", "flicker_border_source", "lse_c", "lse_d", "lse_offset")
	for _, f := range still.Figures {
		if f.Key == "identity_cosine" && f.Value < 0.999 || f.Key == "lse_d" && !(f.Value > 0) {
			t.Errorf("%s is %v", f.Key, f.Value)
		}
	}
	if len(still.Likeness) != 60 || len(still.Flicker[atBorder]) != 60 || still.Flicker[atBorder][0] != nil || still.Flicker[atBorder][30] == nil {
		t.Errorf("curves of %d and %d frames", len(still.Likeness), len(still.Flicker[atBorder]))
	}

	options = SyncOptions{
		Video: video("flickers.mp4", "eq=brightness=0.04:enable='mod(n,2)'", "1.2"), Source: file("narrow.png"),
		Length: "pad", Face: "largest", Threads: 1, SyncNet: options.SyncNet,
	}
	flickers, err := measure(ctx, nets, options)
	if err != nil {
		t.Fatal(err)
	}
	got = verdicts(flickers)
	check(got, "FAIL", "identity_shape", "identity_ssim", "identity_border", "flicker_border", "flicker_skin")
	for _, f := range flickers.Figures {
		if f.Key == "lse_c" && !math.IsNaN(f.Value) {
			t.Errorf("30 frames were scored: %v", f.Value)
		}
	}
	if fault.KindOf(flickers.Missed()) != fault.Input {
		t.Error(flickers.Missed())
	}

	options.Source, options.SyncNet = "", nil
	alone, err := measure(ctx, nets, options)
	if err != nil {
		t.Fatal(err)
	}
	got = verdicts(alone)
	check(got, "", "flicker_border", "flicker_skin", "flicker_mouth")
	if _, ok := got["identity_ssim"]; ok || alone.Likeness != nil {
		t.Error("identity was measured without a source")
	}

	options.Identity = "x.onnx"
	if _, err := measure(ctx, nets, options); fault.KindOf(err) != fault.Usage {
		t.Errorf("an identity network without a source: %v", err)
	}
	options.Identity, options.SyncNet = "", []string{"missing.onnx"}
	if _, err := measure(ctx, nets, options); fault.KindOf(err) != fault.Input {
		t.Errorf("a missing SyncNet: %v", err)
	}
}
