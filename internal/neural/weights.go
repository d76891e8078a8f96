package neural

import (
	"context"
	"fmt"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The values of the setting `weights`, and of memory.Plan.Weights.
const (
	weightsAuto = "auto"
	weightsF32  = "f32" // "" in a plan
	weightsF16  = "f16"
	weightsInt8 = "int8"
)

// storedUNet returns the type of the UNet's weights that are passed with each run, or 0.
func storedUNet(p memory.Plan) tensor.DType {
	return map[string]tensor.DType{weightsF16: tensor.F16, weightsInt8: tensor.I8}[p.Weights]
}

// storedVAE is storedUNet for the VAE. Its weights are never int8: each error would show in
// the image, and they are few.
func storedVAE(p memory.Plan) tensor.DType {
	if p.Weights == "" {
		return 0
	}
	return tensor.F16
}

// storing returns the target of a network with stored weights. They become float32, and it
// is left to the runtime to compute in a lower precision.
func storing(t network.Target, stored tensor.DType) network.Target {
	if stored != 0 {
		t.Stored, t.Compute = stored, tensor.F32
	}
	return t
}

// setWeights sets how weights are stored: as requested, or else as the profile has it for a
// CPU. It converts the checkpoints if that has not been done. If the profile asks for it and
// the result cannot be written, weights stay as the runtime makes them, with a warning.
func (o *Options) setWeights(ctx context.Context, requested, profile string, warn func(string)) error {
	optional := false
	switch onCPU := o.Device.ID == "cpu"; {
	case requested == weightsAuto && onCPU && !o.Short:
		requested, optional = profile, true
	case requested == weightsAuto, requested == weightsF32:
		return nil
	case !onCPU:
		return fault.Field("weights", requested, "needs the device cpu: a GPU has the weights in its own memory, in f16", "set `weights` to auto, or `device` to cpu")
	}
	if requested == "" {
		return nil
	}
	f := &o.Files
	stored := o.Plan
	stored.Weights, f.StoredVAE = requested, f.VAE
	prepare := func(path string, dtype tensor.DType) (string, error) {
		if file, ok := models.Prepared(ctx, path, dtype); ok {
			return file, nil
		}
		as := weightsF16
		if dtype == tensor.I8 {
			as = weightsInt8
		}
		warn(fmt.Sprintf("%s is converted to %s before the job begins; this is done once, and the next jobs use the result", path, as))
		return models.Prepare(ctx, path, dtype, nil)
	}
	var err error
	if f.StoredUNet, err = prepare(f.UNet, storedUNet(stored)); err == nil && !f.tinyEncoder {
		f.StoredVAE, err = prepare(f.VAE, storedVAE(stored))
	}
	if optional && fault.KindOf(err) == fault.Output {
		warn("the job takes more memory than it could, because " + err.Error())
		return nil
	}
	if err == nil {
		o.Plan, o.Allowed.Precision = stored, ""
	}
	return err
}
