// Package settings defines the settings of a job, once. Everything that offers
// settings is derived from the struct tags of [Settings]: the flags of the
// command line, the JSON of the HTTP API and its OpenAPI document, the form of
// the web page, the inputs of the ComfyUI nodes, the checks, and what a resumed
// job depends on. To add a setting, add a field here.
//
// The tags are:
//
//	json      the name, in snake case; its flag is the same with dashes
//	name      the flag, where it differs from what kong derives from the field
//	help      one or two sentences
//	title     the label in forms; by default the name in words
//	group     the heading under which it is listed
//	choices   the values that are allowed, separated by commas
//	bare      the value of a flag that is given without one
//	default   the value of a setting that was not given
//	otherwise what happens by default, in words, where no one value says it
//	min, max  the range of numbers, both included
//	multiple  numbers have to be a multiple of this
//	unit      of numbers: "s", "bytes", "pixels"
//	scope     "local": only for jobs on this machine (files, resuming); never
//	          taken from a client of the HTTP API. "name": a client may give the
//	          name of a file, but no path
//	level     "advanced": forms show it on request
//	latents   "no": it changes no latents, so a resumed job may change it
//	engines   the engines that use it, separated by commas; of an embedded struct,
//	          for all fields without this tag. By default, and if it is empty, all do
//
// kong reads name, help, group, default and placeholder itself.
package settings

// Settings says how a job is done. The zero value of a field means that the
// setting was not given: WithDefaults fills in the defaults, and what depends on
// the machine or the profile is settled later. Numbers for which 0 has a meaning
// or is wrong are pointers: write Steps: new(10).
type Settings struct {
	Engine      string `json:"engine,omitempty" choices:"auto,preview,musetalk,latentsync" default:"auto" help:"What makes the mouth: preview moves the speaker's own, which needs no checkpoint; musetalk and latentsync generate a new one. auto uses latentsync if its checkpoint is installed, else musetalk if its checkpoint is, else preview."`
	FPS         string `json:"fps,omitempty" name:"fps" title:"Frame rate" placeholder:"RATE" otherwise:"the rate of the video, 25 for a picture" help:"Output frame rate, such as 25, 29.97 or 30000/1001."`
	Length      string `json:"length,omitempty" title:"If the lengths differ" choices:"pad,loop,pingpong,shortest" default:"pad" help:"What to do if video and voice differ in length: pad the shorter one (with its last frame, or silence), loop the video or play it back and forth (pingpong) until the voice ends, or stop with the shortest."`
	Face        string `json:"face,omitempty" title:"Which face" placeholder:"largest|center|left|right|N" default:"largest" help:"Which face speaks: the largest, the one in the center, the leftmost, the rightmost, or the Nth from the left."`
	Start       Time   `json:"start,omitempty" unit:"s" level:"advanced" placeholder:"TIME" help:"Use the video from here: seconds, or [H:]M:S."`
	End         *Time  `json:"end,omitempty" unit:"s" level:"advanced" placeholder:"TIME" otherwise:"the end of the video" help:"Use the video up to here."`
	Codec       string `json:"codec,omitempty" level:"advanced" latents:"no" choices:"h264,hevc,vp9,av1,prores,ffv1" otherwise:"chosen by the extension of the output" help:"Video codec of the output."`
	CRF         *int   `json:"crf,omitempty" name:"crf" title:"CRF" level:"advanced" latents:"no" min:"0" max:"63" placeholder:"N" otherwise:"18 for h264; depends on the codec otherwise" help:"Constant rate factor: lower is better, 0 is lossless; up to 51, or 63 for vp9 and av1."`
	Preset      string `json:"preset,omitempty" level:"advanced" latents:"no" choices:"ultrafast,superfast,veryfast,faster,fast,medium,slow,slower,veryslow" otherwise:"veryfast" help:"Speed of the encoder; slower ones make smaller files."`
	KeepTracks  string `json:"keep_tracks,omitempty" bare:"all" title:"Keep tracks" level:"advanced" latents:"no" choices:"none,audio,subtitles,all" default:"none" help:"Which other tracks of the video's file go into the output, beside the voice: its sound (audio), its subtitles, or all. They are copied, as far as the container takes them."`
	Deinterlace string `json:"deinterlace,omitempty" bare:"yes" level:"advanced" choices:"auto,yes,no" default:"auto" help:"Make whole frames of the fields of interlaced video: if the file says that it is interlaced (auto), always, or never, which keeps the fields. With twice the frame rate each field becomes a frame."`
	Seed        *int64 `json:"seed,omitempty" placeholder:"N" default:"1247" help:"Seed of the random numbers. Only latentsync uses them, and musetalk with parity all."`

	Backend string `json:"backend,omitempty" level:"advanced" choices:"auto,openvino,onnxruntime" default:"auto" help:"Which runtime runs the networks."`
	Device  string `json:"device,omitempty" level:"advanced" placeholder:"DEVICE" otherwise:"the first device of the backend" help:"Where musetalk, latentsync and a restoration compute: cpu, gpu:0, cuda:0. lipstream doctor lists the devices."`
	Threads *int   `json:"threads,omitempty" level:"advanced" min:"1" max:"1024" placeholder:"N" otherwise:"one for the faces, all for musetalk and latentsync" help:"CPU threads of the networks."`

	Networks   `group:"Networks" engines:"musetalk,latentsync"`
	LatentSync `group:"LatentSync" engines:"latentsync"`
	Memory     `group:"Memory"`
}

// Networks holds the settings of the engines that run checkpoints.
type Networks struct {
	Models          string   `json:"models,omitempty" scope:"local" engines:"" placeholder:"FOLDER" otherwise:"see lipstream models list" help:"Folder of the checkpoints."`
	Profile         string   `json:"profile,omitempty" choices:"auto,quality,balanced,speed,lowmem" default:"auto" help:"Sets precision, silence, memory and, for latentsync, sampler, steps, guidance and DeepCache, unless they are given. docs/memory.md has the table."`
	Resolution      *int     `json:"resolution,omitempty" level:"advanced" min:"64" max:"1024" multiple:"64" unit:"pixels" placeholder:"256|512" otherwise:"what the checkpoint was made for" help:"Size of the generated face: 256 for MuseTalk and LatentSync 1.5, 512 for LatentSync 1.6."`
	Precision       string   `json:"precision,omitempty" level:"advanced" choices:"auto,f32,bf16,f16" default:"auto" help:"Precision of UNet and VAE. auto is f32 on a CPU and f16 on a GPU. Prepare half-precision checkpoints with lipstream models prepare."`
	Weights         string   `json:"weights,omitempty" level:"advanced" choices:"auto,f32,f16,int8" default:"auto" help:"How the weights of UNet and VAE are kept in memory on a CPU, whatever the precision of the arithmetic: f16 takes half of what f32 takes, and int8 a quarter, but changes the result slightly; a layer's weights are converted while it runs. The first job converts the checkpoints. auto is set by the profile; f32 is what the runtime makes of them."`
	VAE             string   `json:"vae,omitempty" name:"vae" title:"VAE" level:"advanced" choices:"full,tiny,tiny-decoder" default:"full" help:"Which network turns images into latents and back: Stable Diffusion's VAE (full), or TAESD, a tiny one (tiny). tiny-decoder uses TAESD only to turn latents into images, which changes them less. Get it with lipstream models pull taesd."`
	Silence         string   `json:"silence,omitempty" level:"advanced" choices:"speak,hold,pass" otherwise:"set by the profile; speak with auto" help:"What to do while nobody speaks: generate the mouth as usual (speak), hold it still, or pass the frames through unchanged."`
	Restore         string   `json:"restore,omitempty" scope:"name" level:"advanced" latents:"no" engines:"" placeholder:"FILE|NAME" otherwise:"no restoration" help:"Restore the generated region with a face restoration network of GFPGAN's layout, an ONNX file that you supply: its path (for jobs on this machine), or its name in the folder restore of the checkpoints, without .onnx."`
	RestoreStrength *float64 `json:"restore_strength,omitempty" name:"restore-strength" title:"Restore strength" level:"advanced" latents:"no" engines:"" min:"0" max:"1" placeholder:"SHARE" otherwise:"0.8" help:"How much of the restored face to use: 0 is none, 1 hides what the engine has made."`
	Parity          string   `json:"parity,omitempty" level:"advanced" placeholder:"all|LIST" help:"Behave like the original program of the engine: all, or a list of whisper (its windows of 30 s do not overlap), paste (faces are cut out and pasted back as the original does), noise (the network hears the noise in silence), cuts (windows and smoothing run across scene cuts) and faces (a frame without a face fails the job). all also sets 25 frames a second."`
}

// LatentSync holds the settings that only the latentsync engine uses.
type LatentSync struct {
	Steps              *int     `json:"steps,omitempty" min:"1" max:"100" placeholder:"N" otherwise:"set by the profile; 20 with auto" help:"Number of denoising steps."`
	Guidance           *float64 `json:"guidance,omitempty" title:"Guidance scale" min:"1" max:"20" placeholder:"SCALE" otherwise:"set by the profile; 1.5 with auto" help:"Classifier-free guidance scale: a higher one moves the lips more, 1 takes half the time."`
	GuidanceFrom       *float64 `json:"guidance_from,omitempty" level:"advanced" min:"0" max:"1" placeholder:"SHARE" otherwise:"0, the first step" help:"Share of the denoising steps after which guidance begins. A step without guidance takes half the time."`
	GuidanceTo         *float64 `json:"guidance_to,omitempty" level:"advanced" min:"0" max:"1" placeholder:"SHARE" otherwise:"1, the last step" help:"Share of the denoising steps after which guidance ends."`
	GuidanceThreshold  *float64 `json:"guidance_threshold,omitempty" level:"advanced" min:"0" max:"1" placeholder:"SHARE" otherwise:"0, never" help:"End guidance as soon as the predictions with and without the voice differ by less than this share."`
	GuidanceEvery      *int     `json:"guidance_every,omitempty" level:"advanced" min:"1" max:"100" placeholder:"N" otherwise:"1" help:"Predict without the voice every N steps only, and use the difference that the voice made then in the steps between."`
	Sampler            string   `json:"sampler,omitempty" level:"advanced" choices:"ddim,dpm++" otherwise:"set by the profile; ddim with auto" help:"DDIM, or DPM-Solver++ 2M, which needs fewer steps."`
	DeepCache          *int     `json:"deepcache,omitempty" name:"deepcache" title:"DeepCache" level:"advanced" min:"1" max:"100" placeholder:"N" otherwise:"set by the profile; 3 with auto" help:"Compute the deep layers of the UNet every N steps only; 1 means at every step."`
	DeepCacheThreshold *float64 `json:"deepcache_threshold,omitempty" name:"deepcache-threshold" title:"DeepCache threshold" level:"advanced" min:"0" max:"10" placeholder:"SHARE" otherwise:"0, by deepcache alone" help:"Compute the deep layers again when the input of the UNet has changed by more than this share since they were computed; deepcache is then the most steps between."`
	Overlap            *int     `json:"overlap,omitempty" level:"advanced" min:"0" max:"12" placeholder:"N" otherwise:"4; the original has 0" help:"Frames that neighbouring windows share and blend, which hides the seams."`
}

// Memory holds the settings of memory, and of resuming.
type Memory struct {
	MemoryLimit     Size   `json:"memory_limit,omitempty" latents:"no" min:"104857600" unit:"bytes" placeholder:"SIZE" otherwise:"what is free, within the limit of the control group" help:"The most memory that the job may use, ffmpeg included, such as 3GB."`
	MemoryWarning   string `json:"memory_warning,omitempty" level:"advanced" latents:"no" placeholder:"SHARE|SIZE" otherwise:"62.5%, which is 15 GB of 24" help:"Warn when this much of a memory (GPU, host, control group) is in use."`
	MemoryAlert     string `json:"memory_alert,omitempty" level:"advanced" latents:"no" placeholder:"SHARE|SIZE" otherwise:"75%, which is 18 GB of 24" help:"Alert when this much is in use. If it is the memory of the GPU, the job then uses less."`
	FramesPerWindow *int   `json:"frames_per_window,omitempty" engines:"musetalk,latentsync" level:"advanced" min:"1" max:"24" placeholder:"N" otherwise:"16, or 8 if memory is short; for musetalk 4, or 16 on a GPU" help:"Frames generated together."`
	Windows         *int   `json:"windows,omitempty" engines:"musetalk,latentsync" level:"advanced" latents:"no" title:"Windows in flight" min:"1" max:"16" placeholder:"N" otherwise:"4, 2 or 1, depending on the memory" help:"Windows generated side by side."`
	Offload         string `json:"offload,omitempty" engines:"musetalk,latentsync" level:"advanced" latents:"no" choices:"none,model,sequential" otherwise:"depends on the memory" help:"Keep all networks loaded (none), one network at a time (model), or one part of the UNet at a time (sequential)."`
	VAEFrames       *int   `json:"vae_frames,omitempty" engines:"musetalk,latentsync" name:"vae-frames" title:"VAE frames" level:"advanced" latents:"no" min:"1" max:"16" placeholder:"N" otherwise:"1" help:"Frames in one call of the VAE."`
	VAETile         *int   `json:"vae_tile,omitempty" engines:"musetalk,latentsync" name:"vae-tile" title:"VAE tile" level:"advanced" min:"0" max:"1024" multiple:"64" unit:"pixels" placeholder:"PIXELS" otherwise:"depends on the memory" help:"Side of the overlapping tiles in which the VAE works; 0 means whole frames, the smallest tile is 128."`
	AttentionSlices *int   `json:"attention_slices,omitempty" engines:"musetalk,latentsync" level:"advanced" min:"1" max:"16" placeholder:"N" otherwise:"1" help:"Number of slices in which attention is computed. Exact; saves memory if the runtime does not fuse attention."`
	ShrinkEvery     *int   `json:"shrink_every,omitempty" engines:"musetalk,latentsync" level:"advanced" latents:"no" min:"0" max:"1000000" placeholder:"WINDOWS" otherwise:"2" help:"The runtime returns unused memory after this many windows; 0 means never."`
	ReturnEvery     *int   `json:"return_every,omitempty" engines:"musetalk,latentsync" level:"advanced" latents:"no" min:"0" max:"1000000" placeholder:"WINDOWS" otherwise:"3" help:"Go and the C library return unused memory after this many windows; 0 means never."`
	Resume          string `json:"resume,omitempty" scope:"local" latents:"no" choices:"auto,never" default:"auto" help:"Continue where the same job was interrupted, or start again."`
}

// The values of Engine that the program refers to. EngineAuto picks the best one that
// can run.
const (
	EngineAuto       = "auto"
	EnginePreview    = "preview"
	EngineMuseTalk   = "musetalk"
	EngineLatentSync = "latentsync"
)

// The values of Length. A picture always lasts as long as the voice.
const (
	LengthPad      = "pad"
	LengthLoop     = "loop"
	LengthPingPong = "pingpong"
	LengthShortest = "shortest"
)

// The values of KeepTracks that the program refers to.
const (
	TracksAudio     = "audio"
	TracksSubtitles = "subtitles"
	TracksAll       = "all"
)

// The values of Deinterlace that the program refers to.
const (
	DeinterlaceYes = "yes"
	DeinterlaceNo  = "no"
)

// The values of Resume.
const (
	ResumeAuto  = "auto"
	ResumeNever = "never"
)

// ParityAll is the value of Parity that asks for everything.
const ParityAll = "all"
