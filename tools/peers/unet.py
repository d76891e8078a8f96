#!/usr/bin/env python3
"""LatentSync's UNet3D in PyTorch: the peer that Lipstream's UNet is timed against.

Written from Lipstream's description of the network; module names give the
official state-dict keys. Internal tensors are (B*F, C, H, W), batch-major, in
channels-last memory, so tokens (B*F, H*W, C) and the rows of all frames
(B, C, F*H, W) are views of the same memory and need no copy.

    unet.py check --golden DIR         compare with the original's results
    unet.py time --checkpoint FILE     time a step, print JSON
    unet.py make --out FILE.pt         write a full-size synthetic checkpoint
"""

import argparse
import ctypes
import json
import math
import os
import sys
import zlib

import torch
import torch.nn.functional as F
from torch import nn

from measure import measured

GROUPS = 32
HEADS = 8
MAX_FRAMES = 24
LAYERS = 2  # per down block; up blocks have one more


def group_norm_over_frames(norm, x, frames):
    """GroupNorm whose statistics span all frames of a batch item."""
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n // frames, frames * h, w, c).permute(0, 3, 1, 2)
    return norm(rows).permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)


def to_tokens(x):
    """(N, C, H, W) in channels-last memory to (N, H*W, C), without a copy."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(x, h, w):
    return x.unflatten(1, (h, w)).permute(0, 3, 1, 2)


class TimestepEmbedding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t, batch):
        half, weight = self.channels // 2, self.linear_1.weight
        f = torch.exp(torch.arange(half, dtype=torch.float32, device=weight.device) * (-math.log(10000.0) / half))
        e = torch.cat([torch.cos(t * f), torch.sin(t * f)]).expand(batch, -1)
        return self.linear_2(F.silu(self.linear_1(e.to(weight.dtype))))


class ResnetBlock(nn.Module):
    def __init__(self, cin, cout, temb):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, cin, eps=1e-5)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, cout)
        self.norm2 = nn.GroupNorm(GROUPS, cout, eps=1e-5)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x, temb):
        frames = x.shape[0] // temb.shape[0]
        h = self.conv1(F.silu(group_norm_over_frames(self.norm1, x, frames)))
        t = self.time_emb_proj(F.silu(temb))
        h = h + t.repeat_interleave(frames, 0)[:, :, None, None]
        h = self.conv2(F.silu(group_norm_over_frames(self.norm2, h, frames)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class PositionalEncoding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, MAX_FRAMES, channels))


class Attention(nn.Module):
    def __init__(self, channels, context=None, temporal=False):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context or channels, channels, bias=False)
        self.to_v = nn.Linear(context or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        if temporal:
            self.pos_encoder = PositionalEncoding(channels)

    def forward(self, x, context=None):
        if hasattr(self, "pos_encoder"):
            x = x + self.pos_encoder.pe[:, : x.shape[1]]
        context = x if context is None else context
        q, k, v = (
            t.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](h.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x):
        # Two products instead of one and its halves: gelu would first copy a half.
        (wv, wg), (bv, bg) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        return F.linear(x, wv, bv).mul_(F.gelu(F.linear(x, wg, bg)))


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class SpatialBlock(nn.Module):
    def __init__(self, channels, audio):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, audio)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x, audio):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), audio)
        return x + self.ff(self.norm3(x))


class Transformer3D(nn.Module):
    """Attention inside each frame, and from each frame to its audio tokens."""

    def __init__(self, channels, audio):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, audio)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, audio):
        h, w = x.shape[2:]
        y = to_tokens(self.proj_in(self.norm(x)))
        y = self.transformer_blocks[0](y, audio)
        return self.proj_out(from_tokens(y, h, w)) + x


class TemporalBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.attention_blocks = nn.ModuleList([Attention(channels, temporal=True) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x):
        for attention, norm in zip(self.attention_blocks, self.norms):
            x = x + attention(norm(x))
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x, frames):
        n, c, h, w = x.shape
        y = self.proj_in(to_tokens(self.norm(x)))
        # Everything in the block but attention is per token, so the tokens of
        # one place are brought together once, not for each attention.
        y = y.view(n // frames, frames, h * w, c).transpose(1, 2).flatten(0, 1)
        y = self.transformer_blocks[0](y)
        y = y.view(n // frames, h * w, frames, c).transpose(1, 2).reshape(n, h * w, c)
        return from_tokens(self.proj_out(y), h, w) + x


class MotionModule(nn.Module):
    """Attention over the frames at each place."""

    def __init__(self, channels):
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels)

    def forward(self, x, frames):
        return self.temporal_transformer(x, frames)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """Layers of resnet, attention (unless audio is None) and motion module."""

    def __init__(self, inputs, channels, temb, audio):
        super().__init__()
        if audio is not None:
            self.attentions = nn.ModuleList([Transformer3D(channels, audio) for _ in inputs])
        self.resnets = nn.ModuleList([ResnetBlock(cin, channels, temb) for cin in inputs])
        self.motion_modules = nn.ModuleList([MotionModule(channels) for _ in inputs])

    def layer(self, i, x, temb, audio, frames):
        x = self.resnets[i](x, temb)
        if hasattr(self, "attentions"):
            x = self.attentions[i](x, audio)
        return self.motion_modules[i](x, frames)


class DownBlock(Block):
    def __init__(self, cin, channels, temb, audio, last):
        super().__init__([cin] + [channels] * (LAYERS - 1), channels, temb, audio)
        if not last:
            self.downsamplers = nn.ModuleList([Downsample(channels)])

    def forward(self, x, skips, temb, audio, frames):
        for i in range(len(self.resnets)):
            x = self.layer(i, x, temb, audio, frames)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class UpBlock(Block):
    def __init__(self, inputs, channels, temb, audio, last):
        super().__init__(inputs, channels, temb, audio)
        if not last:
            self.upsamplers = nn.ModuleList([Upsample(channels)])

    def forward(self, x, skips, temb, audio, frames):
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), temb, audio, frames)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class MidBlock(nn.Module):
    def __init__(self, channels, temb, audio):
        super().__init__()
        self.attentions = nn.ModuleList([Transformer3D(channels, audio)])
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, temb) for _ in range(2)])

    def forward(self, x, temb, audio):
        x = self.resnets[0](x, temb)
        return self.resnets[1](self.attentions[0](x, audio), temb)


class UNet3D(nn.Module):
    """Predicts the noise of sample (B, Cin, F, H, W) at timestep t, with audio (B*F, tokens, width)."""

    def __init__(self, channels=(320, 640, 1280, 1280), cin=13, cout=4, audio=384):
        super().__init__()
        c, temb, last = channels, 4 * channels[0], len(channels) - 1
        self.conv_in = nn.Conv2d(cin, c[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(c[0])
        self.down_blocks = nn.ModuleList()
        skips, prev = [c[0]], c[0]
        for i, ci in enumerate(c):
            self.down_blocks.append(DownBlock(prev, ci, temb, None if i == last else audio, i == last))
            skips += [ci] * (LAYERS + (i != last))
            prev = ci
        self.mid_block = MidBlock(prev, temb, audio)
        self.up_blocks = nn.ModuleList()
        for i, ci in enumerate(reversed(c)):
            inputs = []
            for _ in range(LAYERS + 1):
                inputs.append(prev + skips.pop())
                prev = ci
            self.up_blocks.append(UpBlock(inputs, ci, temb, None if i == 0 else audio, i == last))
        self.conv_norm_out = nn.GroupNorm(GROUPS, c[0], eps=1e-5)
        self.conv_out = nn.Conv2d(c[0], cout, 3, padding=1)

    def forward(self, sample, t, audio):
        b, _, frames = sample.shape[:3]
        temb = self.time_embedding(t, b)
        x = sample.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, skips, temb, audio, frames)
        x = self.mid_block(x, temb, audio)
        for block in self.up_blocks:
            x = block(x, skips, temb, audio, frames)
        x = self.conv_out(F.silu(group_norm_over_frames(self.conv_norm_out, x, frames)))
        return x.unflatten(0, (b, frames)).transpose(1, 2)


def load_file(path):
    """The tensors of a safetensors file. Only some commands need the package."""
    import safetensors.torch

    return safetensors.torch.load_file(path)


def load(path, dtype, device="cpu"):
    """The network of a checkpoint. Missing and unexpected keys are errors."""
    if path.endswith(".safetensors"):
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    channels = [state[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(4)]
    audio = state["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    with torch.device("meta"):
        net = UNet3D(channels, state["conv_in.weight"].shape[1], state["conv_out.weight"].shape[0], audio)
    # On a CPU a float32 matrix stays in the mapped file; the rest needs memory of its own.
    net.load_state_dict({k: v.to(device, dtype) for k, v in state.items()}, strict=True, assign=True)
    return net.to(memory_format=torch.channels_last).eval()


def keep_freed_memory():
    """Makes malloc reuse large blocks instead of returning them to the kernel.

    Else each large tensor is made of fresh pages, zeroed one fault at a time;
    PyTorch's tuning guide names other allocators for the same reason.
    """
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**29)):
        libc.mallopt(option, value)


def formula(shape, phase, dtype=torch.float32, device="cpu"):
    """cos(0.31 i + phase) over the elements in order: inputs without a random generator."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.cos(0.31 * i + phase).reshape(shape).to(device, dtype)


@torch.inference_mode()
def check(args):
    net = load(os.path.join(args.golden, "tiny_unet.pt"), torch.float32)
    io = load_file(os.path.join(args.golden, "io.safetensors"))
    worst = 0.0

    def compare(name, got, want):
        nonlocal worst
        diff = (got - want).abs().max().item()
        # A NaN must fail too, and max() would drop it.
        worst = diff if math.isnan(diff) else max(worst, diff)
        print(f"{name}: {diff:.2e}")

    for frames, t in ((1, 951), (8, 501), (16, 1)):
        for hw in (8, 16):
            case = f"f{frames}_hw{hw}"
            sample, audio = io[f"{case}.sample"], io[f"{case}.audio"]
            both = torch.cat([torch.zeros_like(audio), audio])
            compare("b1_" + case, net(sample[1:2], t, audio), io[f"b1_{case}.out"])
            compare("b2_" + case, net(sample, t, both), io[f"b2_{case}.out"])

    trace = load_file(os.path.join(args.golden, "trace_t751_f3_hw16.safetensors"))
    modules, got = dict(net.named_modules()), {}
    for name in trace:
        if name in modules and name != "conv_norm_out":  # which runs on another shape here
            modules[name].register_forward_hook(lambda _m, _in, out, name=name: got.update({name: out}))
    out = net(trace["input.sample"], 751, trace["input.audio"])
    for name, y in got.items():
        compare(name, y.unflatten(0, (1, -1)).transpose(1, 2) if y.dim() == 4 else y, trace[name])
    compare("trace out", out, trace["out"])
    if not worst <= args.tolerance:
        sys.exit(f"largest difference {worst:.2e} is above {args.tolerance:.0e}")
    print(f"ok: largest difference {worst:.2e}")


@torch.inference_mode()
def time_steps(args):
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # the shapes never change
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[args.dtype]
    device, mode = args.device, "compiled" if args.compile else "eager"

    def prepare():
        net = load(args.checkpoint, dtype, device)
        keep_freed_memory()  # after loading, whose buffers are not used again
        cin, width = net.conv_in.in_channels, net.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.in_features
        sample = formula((args.batch, cin, args.frames, args.latent, args.latent), 0.2, dtype, device)
        audio = formula((args.batch * args.frames, 50, width), 0.5, dtype, device)
        run = torch.compile(net, dynamic=False) if args.compile else net

        def step():
            # The answer is on the CPU only when the device has computed all of it.
            if not torch.isfinite(run(sample, 501, audio)).all():
                sys.exit("the result has values that are not finite")

        return step

    result = measured(prepare, args.steps, peer="torch", version=torch.__version__, dtype=args.dtype, batch=args.batch,
                      frames=args.frames, latent=args.latent, threads=args.threads, device=device, mode=mode)
    if device != "cpu":
        result["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    print(json.dumps(result))


def synthetic(key, shape):
    """Values that depend only on the key and the shape: scaled noise, neutral norms, no bias."""
    if key.endswith("pos_encoder.pe"):
        place = torch.arange(shape[1], dtype=torch.float32)[:, None]
        f = torch.exp(torch.arange(0, shape[2], 2, dtype=torch.float32) * (-math.log(10000.0) / shape[2]))
        pe = torch.empty(shape)
        pe[0, :, 0::2], pe[0, :, 1::2] = torch.sin(place * f), torch.cos(place * f)
        return pe
    if key.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    g = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    return torch.randn(shape, generator=g) / math.sqrt(math.prod(shape[1:]))


def make(args):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in UNet3D().state_dict().items()}
    part = args.out + ".part"
    torch.save({"global_step": 0, "state_dict": {k: synthetic(k, s) for k, s in shapes.items()}}, part)
    os.rename(part, args.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("check")
    p.add_argument("--golden", required=True, help="folder with tiny_unet.pt, io and trace")
    p.add_argument("--tolerance", type=float, default=2e-4)
    p.set_defaults(run=check)
    p = commands.add_parser("time")
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--dtype", choices=["bf16", "f16", "f32"], default="bf16")
    p.add_argument("--device", default="cpu", help="cpu, or cuda:0")
    p.add_argument("--compile", action="store_true", help="with torch.compile")
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--latent", type=int, default=32)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(run=time_steps)
    p = commands.add_parser("make")
    p.add_argument("--out", required=True)
    p.set_defaults(run=make)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
