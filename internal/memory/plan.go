package memory

// Offload says which of an engine's networks stay in memory.
type Offload string

// The ways to offload, from the most memory to the least.
const (
	OffloadNone       Offload = "none"       // all networks stay loaded
	OffloadModel      Offload = "model"      // one network at a time
	OffloadSequential Offload = "sequential" // and of the denoising network one part at a time
)

// Plan is how a job uses memory.
type Plan struct {
	Windows   int     `json:"windows"`             // in flight together: 4, 2 or 1
	Frames    int     `json:"frames_per_window"`   // denoised together: 16 or 8
	VAEFrames int     `json:"vae_frames"`          // frames a call of the VAE: 1 is what others call VAE slicing
	Tile      int     `json:"vae_tile,omitempty"`  // side of the VAE's tiles in pixels; 0: whole pictures
	Slices    int     `json:"attention_slices"`    // parts that the queries of an attention are computed in; 1: all at once
	Offload   Offload `json:"offload"`             //
	Precision string  `json:"precision,omitempty"` // of UNet and VAE: f32, bf16, f16
}
