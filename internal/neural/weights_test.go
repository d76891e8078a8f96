package neural

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/lip"
)

// TestWeights runs a job with weights in f16 and in int8. The frames change as little as
// rounding makes them, and the budget counts less memory.
func TestWeights(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		t.Setenv(disk.CacheVariable(), t.TempDir()) // once the runtime is found
		run := func(weights string) (items []lip.Item, needs int64, warnings []string) {
			o := job(t, b)
			o.Resolution, o.Files.tinyEncoder = max(o.Resolution, 128), o.Files.VAE == taesdFile
			if err := o.setWeights(t.Context(), weights, "", func(s string) { warnings = append(warnings, s) }); err != nil {
				t.Fatal(err)
			}
			e := open(t, o)
			items = shotOf(picture, fc, 0, 4, 4)
			process(t, e, items)
			needs = e.needs(o.Plan)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			return items, needs, warnings
		}
		exact, most, _ := run(weightsF32)
		for _, c := range []struct {
			weights string
			least   float64 // PSNR, dB
		}{{weightsF16, 60}, {weightsInt8, 45}} {
			items, needs, warnings := run(c.weights)
			changed, ratio := apart(items, exact)
			t.Logf("%s: frames differ by up to %d, %.1f dB; %d bytes instead of %d", c.weights, changed, ratio, needs, most)
			if ratio < c.least || changed == 0 {
				t.Errorf("%s: frames differ by up to %d, %.1f dB, want at least %.0f dB and a difference", c.weights, changed, ratio, c.least)
			}
			if needs >= most {
				t.Errorf("%s needs %d bytes, f32 %d", c.weights, needs, most)
			}
			if len(warnings) == 0 || !strings.Contains(warnings[0], "is converted to "+c.weights) {
				t.Errorf("%s: warnings %q", c.weights, warnings)
			}
		}
	})
}

// TestWeightsSetting checks what the setting makes of profiles and devices.
func TestWeightsSetting(t *testing.T) {
	if testing.Short() {
		t.Skip("converts checkpoints")
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "lipstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(disk.CacheVariable(), full)
	o, warned := Defaults(), ""
	o.Device.ID, o.Files = "cpu", tinyFiles
	if err := o.setWeights(t.Context(), weightsAuto, weightsInt8, func(s string) { warned = s }); err != nil || o.Plan.Weights != "" || !strings.Contains(warned, "the job takes more memory") {
		t.Errorf("the profile's weights cannot be written: %v, plan %v, warning %q", err, o.Plan, warned)
	}
	if err := o.setWeights(t.Context(), weightsInt8, "", func(string) {}); fault.KindOf(err) != fault.Output {
		t.Errorf("weights that are asked for cannot be written: %v", err)
	}
	cache := t.TempDir()
	t.Setenv(disk.CacheVariable(), cache)
	for _, c := range []struct {
		device, requested, profile string
		want                       string
		kind                       fault.Kind // of the error, or 0
	}{
		{"cpu", weightsAuto, "", "", 0},
		{"cpu", weightsAuto, weightsF16, weightsF16, 0},
		{"cpu", weightsF32, weightsF16, "", 0},
		{"cpu", weightsInt8, "", weightsInt8, 0},
		{"gpu:0", weightsAuto, weightsF16, "", 0},
		{"gpu:0", weightsF32, "", "", 0},
		{"gpu:0", weightsF16, "", "", fault.Usage},
	} {
		o := Defaults()
		o.Device.ID, o.Files = c.device, tinyFiles
		err := o.setWeights(t.Context(), c.requested, c.profile, func(string) {})
		if err != nil && fault.KindOf(err) != c.kind || err == nil && c.kind != 0 || o.Plan.Weights != c.want {
			t.Errorf("%+v: weights %q, %v", c, o.Plan.Weights, err)
		}
		stored := o.Files.StoredUNet != "" && strings.HasPrefix(o.Files.StoredUNet, filepath.Clean(cache))
		if stored != (c.want != "") {
			t.Errorf("%+v: the UNet is %q", c, o.Files.StoredUNet)
		}
	}
}
