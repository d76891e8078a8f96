package network

import (
	"cmp"
	"fmt"
	"math"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// UNetConfig is the topology of a UNet: LatentSync's (docs/spec/latentsync.md, section 4.2),
// or MuseTalk's, which has no motion modules (docs/spec/musetalk.md, section 5.4).
type UNetConfig struct {
	Channels  []int // of each level; published: 320, 640, 1280, 1280
	Layers    int   // resnets per down block; up blocks have one more
	In, Out   int   // latent channels: 13 and 4; MuseTalk's has 8 and 4
	AudioDim  int   // width of an audio token: 384 with Whisper tiny
	Heads     int   // of every attention; not in the checkpoint, always 8
	Positions int   // of the temporal positional encoding: 24, the most frames of a window; 0 without motion modules
}

// Published returns the topology of LatentSync 1.5 and 1.6.
func Published() UNetConfig {
	return UNetConfig{Channels: []int{320, 640, 1280, 1280}, Layers: 2, In: 13, Out: 4, AudioDim: 384, Heads: 8, Positions: 24}
}

// timeDim returns the width of the time embedding.
func (c UNetConfig) timeDim() int { return 4 * c.Channels[0] }

// attends reports whether a level has spatial and audio attention. All but the deepest
// have.
func (c UNetConfig) attends(level int) bool { return level < len(c.Channels)-1 }

// UNetShape holds the sizes that a graph is built for.
type UNetShape struct {
	Batch  int // 2 runs both halves of classifier-free guidance together
	Frames int // of the window, 1 to Positions
	Latent int // side of the latents: 32 for 256 pixels
	Tokens int // audio tokens a frame: 50 with Whisper tiny
	// Hears adds the input "hears", one int64: how many frames hear audio, the first ones.
	// The others skip the attention to it.
	Hears bool
}

// UNet is a denoising network as a chain of graphs. A graph's inputs are
// outputs of graphs before it, or those of the network:
//
//	sample (batch·frames, In, latent, latent), frames of a batch item together
//	time   (1, Channels[0]), see TimeEmbedding
//	audio  (batch·frames, Tokens, AudioDim)
//	hears  (1), with UNetShape.Hears
//
// and the last graph's output "noise" is (batch·frames, Out, latent, latent).
// DeepCache skips the graphs between the first and the last. It takes their output Deep
// from an earlier step (docs/spec/latentsync.md, section 6.5).
type UNet struct {
	Config UNetConfig
	Shape  UNetShape
	Graphs []*onnx.Graph
}

// Deep is the output of the graphs between the first and the last, and First that of the
// first one.
const (
	Deep  = "deep"
	First = "skip_0"
)

// NewUNet builds the graphs. weights must have passed checkpoint.File.Check
// with UNetWants.
func NewUNet(c UNetConfig, s UNetShape, weights *checkpoint.File, t Target) (*UNet, error) {
	if s.Frames < 1 || s.Frames > c.Positions {
		return nil, fmt.Errorf("a window has %d frames, but the checkpoint's positional encoding takes 1 to %d", s.Frames, c.Positions)
	}
	if factor := 1 << (len(c.Channels) - 1); s.Latent%factor != 0 {
		return nil, fmt.Errorf("the side of the latents is %d, which is not a multiple of %d", s.Latent, factor)
	}
	u := &unet{UNetConfig: c, UNetShape: s, height: s.Latent, width: s.Latent, b: newBuilder("", weights, t)}
	graphs, err := u.build()
	return &UNet{Config: c, Shape: s, Graphs: graphs}, err
}

// UNetWants lists the tensors of a checkpoint of this topology.
func UNetWants(c UNetConfig) []checkpoint.Want {
	u := &unet{UNetConfig: c, b: newBuilder("", nil, Target{})}
	side := 1 << (len(c.Channels) - 1)
	u.Batch, u.Frames, u.Tokens, u.height, u.width = 1, 1, 1, side, side
	_, _ = u.build() // without weights nothing can be missing
	return u.b.wanted.list
}

// TimeEmbedding returns the sinusoidal embedding of a timestep, (1, dim): cosines
// first (docs/spec/latentsync.md, section 4.3).
func TimeEmbedding(timestep float64, dim int) *tensor.Tensor {
	half := dim / 2
	v := make([]float32, dim)
	for j := range half {
		// The original multiplies in float32.
		angle := float64(float32(timestep) * float32(math.Exp(-math.Log(10000)*float64(j)/float64(half))))
		v[j], v[half+j] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
	return tensor.FromF32(v, 1, dim)
}

// unet is a UNet under construction.
type unet struct {
	UNetConfig
	UNetShape
	height, width int // of the latents
	b             *builder
	graphs        []*onnx.Graph
	passed        map[feature]bool // outputs of earlier graphs
	time          onnx.Value       // in the graph under construction
	audio         onnx.Value       // (tokens of the frames that hear them, AudioDim)
	hears         onnx.Value       // the input of that name, if it exists
	embedding     []float32        // instead of time; see embed
}

// moves reports whether there are motion modules, as LatentSync has.
func (u *unet) moves() bool { return u.Positions > 0 }

// feature is a stack of feature maps that later layers also use.
type feature struct {
	name string // between graphs
	stack
	graph *onnx.Graph // that computes it, as value
	value onnx.Value
}

// begin starts the next graph.
func (u *unet) begin(name string, audio bool) {
	u.b = u.b.fork(name)
	u.graphs = append(u.graphs, u.b.Graph)
	if name != "in" && u.moves() {
		u.time = u.b.Input("temb", u.b.Activations, 1, u.timeDim())
	}
	if audio {
		u.audio = u.b.input("audio", u.Batch*u.Frames, u.Tokens, u.AudioDim)
		if u.Hears {
			u.hears = u.b.Input("hears", tensor.I64, 1)
			u.audio = u.b.firstRows(u.audio, u.hears)
		}
		u.audio = u.b.reshape(u.audio, -1, u.AudioDim)
	}
}

// keep names a value that later layers use.
func (u *unet) keep(name string, v onnx.Value, m stack) feature {
	return feature{name, m, u.b.Graph, v}
}

// use returns f in the graph under construction. A feature of another graph becomes an
// output there and an input here.
func (u *unet) use(f feature) onnx.Value {
	if f.graph == u.b.Graph {
		return f.value
	}
	if !u.passed[f] {
		u.passed[f] = true
		f.graph.Output(f.name, f.value, u.b.Activations, u.b.shape(f.stack)...)
	}
	return u.b.Input(f.name, u.b.Activations, u.b.shape(f.stack)...)
}

// build builds the graphs. With more graphs, compiling takes less memory, but the
// tensors between them take more. So each level with many weights has a graph of its own,
// and the levels with large feature maps share one. DeepCache, which only LatentSync has,
// needs the first and the last layer in graphs of their own.
func (u *unet) build() ([]*onnx.Graph, error) {
	u.passed = map[feature]bool{}
	var failed error
	begin := func(name string, audio bool) {
		failed = cmp.Or(failed, u.b.err)
		u.begin(name, audio)
	}
	if u.moves() {
		begin("in", false)
	} else {
		begin("down", true)
	}
	h := u.in()
	skips := []feature{h}
	last := len(u.Channels) - 1
	if u.moves() {
		begin("down", true)
	}
	for level := range last {
		h = u.down(level, h, &skips)
	}
	begin("middle", true)
	h = u.middle(u.down(last, h, &skips))
	for level := last; level >= 0; level-- {
		switch { // levels 1 and 0 share a graph
		case level > 1:
			begin(fmt.Sprintf("up_%d", last-level), u.attends(level))
		case level == 1 || last == 0:
			begin("up", true)
		}
		h = u.up(level, h, &skips)
	}
	if u.moves() {
		begin("out", true)
	}
	u.out(h, skips[0])
	return u.graphs, cmp.Or(failed, u.b.err)
}

// in builds conv_in and the time embedding.
func (u *unet) in() feature {
	b, c, t := u.b, u.Channels[0], u.timeDim()
	m := stack{u.Batch * u.Frames, c, u.height, u.width}
	x := b.inputMaps("sample", stack{m.n, u.In, m.h, m.w})
	if u.moves() {
		e := b.linear(b.input("time", 1, c), "time_embedding.linear_1", c, t)
		e = b.linear(b.silu(e), "time_embedding.linear_2", t, t)
		// Every resnet takes SiLU of the embedding, so it is computed once.
		b.Output("temb", b.silu(e), b.Activations, 1, t)
	} else {
		u.embed()
	}
	return u.keep(First, b.conv3(x, "conv_in", u.In, c), m)
}

// down builds down block i. Each layer and the downsampler leave a skip.
func (u *unet) down(i int, h feature, skips *[]feature) feature {
	name := fmt.Sprintf("down_blocks.%d", i)
	push := func(x onnx.Value, m stack) {
		h = u.keep(fmt.Sprintf("skip_%d", len(*skips)), x, m)
		*skips = append(*skips, h)
	}
	for j := range u.Layers {
		push(u.layer(u.use(h), h.stack, name, j, u.Channels[i], u.attends(i)))
	}
	if i < len(u.Channels)-1 {
		m := h.stack
		m.h, m.w = m.h/2, m.w/2
		push(u.b.conv(u.use(h), name+".downsamplers.0.conv", m.c, m.c, 3, 2, 1, 1, 1, 1), m)
	}
	return h
}

// middle builds the block between down and up.
func (u *unet) middle(h feature) feature {
	x, m := u.resnet(u.use(h), h.stack, "mid_block.resnets.0", h.c)
	x = u.transformer(x, m, "mid_block.attentions.0")
	x, m = u.resnet(x, m, "mid_block.resnets.1", m.c)
	return u.keep("middle", x, m)
}

// up builds the up block of a level. It leaves the last layer of level 0 to out.
func (u *unet) up(level int, h feature, skips *[]feature) feature {
	name := fmt.Sprintf("up_blocks.%d", len(u.Channels)-1-level)
	x, m := u.use(h), h.stack
	for j := range u.Layers + 1 {
		if level == 0 && j == u.Layers {
			return u.keep(Deep, x, m)
		}
		skip := (*skips)[len(*skips)-1]
		*skips = (*skips)[:len(*skips)-1]
		x, m = u.join(x, m, skip)
		x, m = u.layer(x, m, name, j, u.Channels[level], u.attends(level))
	}
	m.h, m.w = 2*m.h, 2*m.w
	return u.keep(name, u.b.conv3(u.b.double(x), name+".upsamplers.0.conv", m.c, m.c), m)
}

// join appends a skip's channels to those of x.
func (u *unet) join(x onnx.Value, m stack, skip feature) (onnx.Value, stack) {
	m.c += skip.c
	return u.b.join(x, u.use(skip)), m
}

// out builds the last layer of the last up block and the layers after it.
func (u *unet) out(deep, s0 feature) {
	b, block := u.b, fmt.Sprintf("up_blocks.%d", len(u.Channels)-1)
	x, m := u.join(u.use(deep), deep.stack, s0)
	x, m = u.layer(x, m, block, u.Layers, u.Channels[0], true)
	x = b.groupNormSiLU(x, "conv_norm_out", m, u.Frames, epsResnet)
	name := "noise"
	if !u.moves() {
		name = "latents"
	}
	b.outputMaps(name, b.conv3(x, "conv_out", m.c, u.Out), stack{m.n, u.Out, m.h, m.w})
}

// layer builds a resnet, attention if the level has it, and a motion module.
func (u *unet) layer(x onnx.Value, m stack, block string, j, c int, attends bool) (onnx.Value, stack) {
	x, m = u.resnet(x, m, fmt.Sprintf("%s.resnets.%d", block, j), c)
	if attends {
		x = u.transformer(x, m, fmt.Sprintf("%s.attentions.%d", block, j))
	}
	if !u.moves() {
		return x, m
	}
	return u.motion(x, m, fmt.Sprintf("%s.motion_modules.%d.temporal_transformer", block, j)), m
}

// resnet builds a resnet, whose normalisations run over all frames of the window
// (docs/spec/latentsync.md, section 4.3).
func (u *unet) resnet(x onnx.Value, m stack, name string, c int) (onnx.Value, stack) {
	b, in := u.b, m.c
	y := b.groupNormSiLU(x, name+".norm1", m, u.Frames, epsResnet)
	m.c = c
	if u.moves() {
		t := b.linear(u.time, name+".time_emb_proj", u.timeDim(), c)
		y = b.convNormSiLU(y, t, name+".conv1", in, name+".norm2", m, u.Frames, epsResnet)
	} else {
		y = b.groupNormSiLU(u.embeddedConv(y, name, in, c), name+".norm2", m, u.Frames, epsResnet)
	}
	if in != c {
		x = b.conv(x, name+".conv_shortcut", in, c, 1, 1, 0, 0, 0, 0)
	}
	return b.addConv3(x, y, name+".conv2", m), m
}

// transformer builds spatial self-attention and attention to the frame's audio.
func (u *unet) transformer(x onnx.Value, m stack, name string) onnx.Value {
	b, c, n := u.b, m.c, m.h*m.w
	y := b.toTokens(b.groupNorm(x, name+".norm", m, 1, epsTransformer), m)
	y = b.pointwise(y, name+".proj_in", c, c)
	block := name + ".transformer_blocks.0"
	{
		z := b.layerNorm(y, block+".norm1", c)
		q, k, v := u.qkv(z, z, block+".attn1", c, c)
		z = b.attention(q, k, v, m.n, n, n, u.Heads, c)
		y = b.addLinear(y, z, block+".attn1.to_out.0", c, c)
	}
	y = u.listen(y, m, block)
	y = u.feedForward(y, b.layerNorm(y, block+".norm3", c), block+".ff", m.tokens(), c)
	y = b.pointwise(y, name+".proj_out", c, c)
	return b.add(x, b.toMaps(y, m))
}

// listen builds the attention of the frames' tokens y to their audio. Frames that hear nothing
// skip it: from audio of zeros come keys and values of zeros, and as the result the bias of the
// last layer.
func (u *unet) listen(y onnx.Value, m stack, block string) onnx.Value {
	b, c, n, name := u.b, m.c, m.h*m.w, block+".attn2"
	attend := func(y onnx.Value, frames int) onnx.Value {
		q, k, v := u.qkv(b.layerNorm(y, block+".norm2", c), u.audio, name, c, u.AudioDim)
		return b.addLinear(y, b.attention(q, k, v, frames, n, u.Tokens, u.Heads, c), name+".to_out.0", c, c)
	}
	if !u.Hears {
		return attend(y, m.n)
	}
	rows := b.mul(u.hears, b.Ints(int64(n)))
	with := attend(b.firstRows(y, rows), -1)
	without := b.Op("Slice", []onnx.Value{y, rows, b.Ints(int64(m.tokens())), b.Ints(0)})
	without = b.add(without, b.rows(b.Activations, name+".to_out.0.bias", 0, c, c))
	return b.reshape(b.Op("Concat", []onnx.Value{with, without}, onnx.Int("axis", 0)), m.tokens(), c)
}

func (u *unet) qkv(x, context onnx.Value, name string, c, contextDim int) (q, k, v onnx.Value) {
	return u.b.unbiased(x, name+".to_q", c, c), u.b.unbiased(context, name+".to_k", contextDim, c), u.b.unbiased(context, name+".to_v", contextDim, c)
}

// feedForward returns y + a GEGLU of x, both of (rows, c).
func (u *unet) feedForward(y, x onnx.Value, name string, rows, c int) onnx.Value {
	return u.b.addLinear(y, u.b.geglu(x, name+".net.0.proj", rows, c, 4*c), name+".net.2", 4*c, c)
}

// motion builds a motion module: the attention of each pixel over the frames of the
// window. All its other layers work on single tokens, so the tokens are reordered only
// twice: to (batch, pixel, frame) and back.
func (u *unet) motion(x onnx.Value, m stack, name string) onnx.Value {
	b, c, n := u.b, m.c, m.h*m.w
	y := b.groupNorm(x, name+".norm", m, 1, epsTransformer)
	y = b.linear(b.toSequences(y, m, u.Frames), name+".proj_in", c, c)
	block := name + ".transformer_blocks.0"
	for k := range 2 {
		attn := fmt.Sprintf("%s.attention_blocks.%d", block, k)
		z := b.layerNorm(y, fmt.Sprintf("%s.norms.%d", block, k), c)
		z = b.add(b.reshape(z, u.Batch*n, u.Frames, c), u.positions(attn+".pos_encoder.pe", c))
		z = b.reshape(z, m.tokens(), c)
		q, key, v := u.qkv(z, z, attn, c, c)
		z = b.attention(q, key, v, u.Batch*n, u.Frames, u.Frames, u.Heads, c)
		y = b.addLinear(y, z, attn+".to_out.0", c, c)
	}
	y = u.feedForward(y, b.layerNorm(y, block+".ff_norm", c), block+".ff", m.tokens(), c)
	y = b.linear(y, name+".proj_out", c, c)
	return b.add(x, b.fromSequences(y, m, u.Frames))
}

// positions returns the first Frames rows of a positional encoding of (1, Positions, c).
func (u *unet) positions(name string, c int) onnx.Value {
	b := u.b
	pe := b.weight(name, 1, u.Positions, c)
	if u.Frames == u.Positions {
		return pe
	}
	return b.Op("Slice", []onnx.Value{pe, b.Ints(0), b.Ints(int64(u.Frames)), b.Ints(1)})
}
