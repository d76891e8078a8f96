// Package models manages the checkpoints of the engines latentsync and musetalk: it finds,
// identifies, checks and downloads them, converts them to half precision, and makes
// random ones for tests.
package models

import "strings"

// known is a published file.
type known struct {
	name    string // for messages
	kind    Kind   // "" for a file without weights
	version Version
	part    string // the argument of Pull: "1.6", "1.5", "musetalk", "vae", "whisper", "taesd"
	repo    string // on huggingface.co
	path    string // in the repository
	place   string // in the models folder, with slashes
	size    int64  // in bytes
	sha256  string
}

const (
	version15 = "1.5"
	version16 = "1.6"
)

// published lists the files of LatentSync and MuseTalk. Nothing in a UNet's tensors distinguishes 1.5
// from 1.6 (spec section 8), so files are identified by their SHA-256. The sums are from
// public repositories that pin them, each from at least two independent ones (found by
// searching GitHub for the sums, November 2026):
//   - LatentSync 1.6 is ByteDance/LatentSync-1.6 at revision
//     c42c7e6c8e9c213626389fa7d9a3c444b8536353,
//   - LatentSync 1.5 is ByteDance/LatentSync-1.5 at revision
//     32a20d29aead0498e3e885e90dbbe8027da1b61b,
//   - Whisper's sum is also in OpenAI's own download address of tiny.pt (spec
//     section 2.8); both LatentSync repositories hold this file,
//   - the VAE is stabilityai/sd-vae-ft-mse at revision
//     31f26fdeee1355a5c34592e401dd41e45d25a493,
//   - MuseTalk 1.5 is TMElyralab/MuseTalk at revision
//     3ef28bc5cff08c90ad8178a25f1b570cd800170f,
//   - TAESD is madebyollin/taesd at revision 614f76814bbe30edbe2e627ace1c2234c81a2c0e,
//   - Whisper in the layout of transformers is openai/whisper-tiny at revision
//     169d4a4341b33bc18d8881c4b69c2e104e1cc0af.
//
// No sum of MuseTalk 1.0 was found. Only the sum of config.json was computed from the file, which is in the tests.
var published = []known{
	{
		name: "LatentSync 1.6 UNet", kind: UNet, version: Version{Name: version16, Resolution: 512}, part: version16,
		repo: "ByteDance/LatentSync-1.6", path: "latentsync_unet.pt", place: "latentsync-1.6/latentsync_unet.pt",
		size: 5_072_222_488, sha256: "0a478e89eb660f82da4c35dbdde8a5adfb27f99d1b4e50edd03729e1e98316d3",
	},
	{
		name: "LatentSync 1.5 UNet", kind: UNet, version: Version{Name: version15, Resolution: 256}, part: version15,
		repo: "ByteDance/LatentSync-1.5", path: "latentsync_unet.pt", place: "latentsync-1.5/latentsync_unet.pt",
		size: 5_072_348_184, sha256: "6440b49a7ccceff56cdc001f5f17605216337f5bbd66fa360139768926e23f51",
	},
	{
		name: "Whisper tiny", kind: Whisper, part: "whisper",
		repo: "ByteDance/LatentSync-1.6", path: "whisper/tiny.pt", place: "whisper/tiny.pt",
		size: 75_572_083, sha256: "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
	},
	{
		name: "VAE (ft-mse) configuration", part: "vae",
		repo: "stabilityai/sd-vae-ft-mse", path: "config.json", place: "vae/config.json",
		size: 547, sha256: "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e",
	},
	{
		name: "VAE (ft-mse)", kind: VAE, part: "vae",
		repo: "stabilityai/sd-vae-ft-mse", path: "diffusion_pytorch_model.safetensors", place: "vae/diffusion_pytorch_model.safetensors",
		size: 334_643_276, sha256: "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
	},
	{
		name: "MuseTalk 1.5 configuration", part: "musetalk",
		repo: "TMElyralab/MuseTalk", path: "musetalkV15/musetalk.json", place: "musetalkV15/musetalk.json",
		size: 748, sha256: "5b6923aee04d71692e0e9846c471e0a4ea07a4f686d39545e472bd4ba17e1b47",
	},
	{
		name: "MuseTalk 1.5 UNet", kind: MuseTalkUNet, version: Version{Engine: MuseTalk, Name: "1.5", Resolution: 256}, part: "musetalk",
		repo: "TMElyralab/MuseTalk", path: "musetalkV15/unet.pth", place: "musetalkV15/unet.pth",
		size: 3_400_074_924, sha256: "7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007",
	},
	{
		name: "TAESD", kind: TAESD, part: "taesd",
		repo: "madebyollin/taesd", path: "diffusion_pytorch_model.safetensors", place: "taesd/diffusion_pytorch_model.safetensors",
		size: 9_793_292, sha256: "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549",
	},
	{
		// The same weights, with those of the decoder. Find accepts them, Pull does not
		// download them.
		name: "Whisper tiny (transformers)", kind: Whisper,
		repo: "openai/whisper-tiny", path: "pytorch_model.bin",
		size: 151_095_027, sha256: "9607f98a2b22d9e229ae43c52ecea79dcede9e0c5cfae67e8da6eda86d8aac1d",
	},
	{
		// The same weights in PyTorch's format. Find accepts them, Pull does not download them.
		name: "VAE (ft-mse, .bin)", kind: VAE,
		repo: "stabilityai/sd-vae-ft-mse", path: "diffusion_pytorch_model.bin",
		size: 334_707_217, sha256: "1b4889b6b1d4ce7ae320a02dedaeff1780ad77d415ea0d744b476155c6377ddc",
	},
	{
		// The same weights in Stable Diffusion's own layout, as ComfyUI's users have it.
		name: "VAE (ft-mse, original layout)", kind: VAE,
		repo: "stabilityai/sd-vae-ft-mse-original", path: "vae-ft-mse-840000-ema-pruned.safetensors",
		size: 334_641_190, sha256: "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
	},
}

// bySize returns the published file of a kind with exactly this many bytes, or nil.
func bySize(kind Kind, size int64) *known {
	return lookUp(func(k *known) bool { return k.kind == kind && k.size == size })
}

// bySum returns the published file with this SHA-256, or nil.
func bySum(sum string) *known {
	return lookUp(func(k *known) bool { return strings.EqualFold(k.sha256, sum) })
}

func lookUp(match func(*known) bool) *known {
	for i := range published {
		if match(&published[i]) {
			return &published[i]
		}
	}
	return nil
}
