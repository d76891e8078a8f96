#!/usr/bin/env python3
"""MuseTalk's networks in PyTorch: the peer that Lipstream's MuseTalk engine is timed against.

One UNet evaluation and one decoding make the face of a frame. The UNet is that of
unet.py without its motion modules, on single frames; the decoder is that of
Stable Diffusion's VAE, or TAESD's. Module names give the official keys.

    musetalk.py check                         compare with the original's results
    musetalk.py time --unet FILE --vae FILE   time a batch of frames for each line of the input
"""

import argparse
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from measure import stepped
from unet import GROUPS, UNet3D, formula, keep_freed_memory

SCALE = 0.18215


class Still(nn.Module):
    """Takes the place of a motion module."""

    def forward(self, x, frames):
        return x


def unet(path, dtype):
    """The UNet of a checkpoint. Missing and unexpected keys are errors."""
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    channels = [state[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(4)]
    audio = state["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    with torch.device("meta"):
        net = UNet3D(channels, state["conv_in.weight"].shape[1], state["conv_out.weight"].shape[0], audio)
        for block in [*net.down_blocks, *net.up_blocks]:
            block.motion_modules = nn.ModuleList([Still() for _ in block.motion_modules])
    net.load_state_dict({k: v.to(dtype) for k, v in state.items()}, strict=True, assign=True)
    return net.to(memory_format=torch.channels_last).eval()


def generate(net, latents, tokens):
    """Latents (N, 4, h, w) of latents (N, 8, h, w) and tokens (N, T, D) with their positions."""
    return net(latents[:, :, None], 0, tokens)[:, :, 0]


class Resnet(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, cin, eps=1e-6), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, cout, eps=1e-6), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class Attend(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, c, eps=1e-6)
        self.to_q, self.to_k, self.to_v = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x):
        h, w = x.shape[2:]
        y = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        q, k, v = (f(y)[:, None] for f in (self.to_q, self.to_k, self.to_v))
        y = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + y.unflatten(1, (h, w)).permute(0, 3, 1, 2)


class Middle(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList([Resnet(c, c), Resnet(c, c)]), nn.ModuleList([Attend(c)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Conv(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)


class Up(nn.Module):
    def __init__(self, cin, cout, layers, last):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(cin if i == 0 else cout, cout) for i in range(layers)])
        if not last:
            self.upsamplers = nn.ModuleList([Conv(cout)])

    def forward(self, x):
        for r in self.resnets:
            x = r(x)
        if hasattr(self, "upsamplers"):
            x = self.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Decoder(nn.Module):
    def __init__(self, channels, latent, layers):
        super().__init__()
        c = list(reversed(channels))
        self.conv_in, self.mid_block = nn.Conv2d(latent, c[0], 3, padding=1), Middle(c[0])
        self.up_blocks = nn.ModuleList([Up(c[max(i - 1, 0)], c[i], layers + 1, i == len(c) - 1) for i in range(len(c))])
        self.conv_norm_out, self.conv_out = nn.GroupNorm(GROUPS, c[-1], eps=1e-6), nn.Conv2d(c[-1], 3, 3, padding=1)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def vae(path, dtype):
    """Returns the function from latents to images of a VAE in the layout of diffusers."""
    state = {}
    weights = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    for key, v in weights.items():
        for old, new in OLD.items():
            key = key.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
        state[key] = v.to(dtype).squeeze() if ".attentions.0.to_" in key else v.to(dtype)
    sizes = [state[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(4) if f"encoder.down_blocks.{i}.resnets.0.conv1.weight" in state]
    layers = sum(f"encoder.down_blocks.0.resnets.{i}.conv1.weight" in state for i in range(8))
    with torch.device("meta"):
        decoder = Decoder(sizes, state["decoder.conv_in.weight"].shape[1], layers)
        post = nn.Conv2d(decoder.conv_in.in_channels, decoder.conv_in.in_channels, 1)
    decoder.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("decoder.")}, strict=True, assign=True)
    post.load_state_dict({k[16:]: v for k, v in state.items() if k.startswith("post_quant_conv.")}, strict=True, assign=True)
    decoder = decoder.to(memory_format=torch.channels_last).eval()
    return lambda z: decoder(post((z / SCALE).contiguous(memory_format=torch.channels_last)))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x):
        return 3 * torch.tanh(x / 3)


def taesd(path, dtype):
    """Returns the function from latents to images of TAESD, in the layout of diffusers."""
    state = {k.split(".layers.")[1]: v.to(dtype) for k, v in load_file(path).items() if k.startswith("decoder.")}
    state = {f"{int(k.split('.')[0]) + 1}.{k.split('.', 1)[1]}": v for k, v in state.items()}
    c = state["1.weight"].shape[0]
    stage = lambda: [Block(c), Block(c), Block(c), nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1, bias=False)]
    with torch.device("meta"):
        net = nn.Sequential(Clamp(), nn.Conv2d(4, c, 3, padding=1), nn.ReLU(), *stage(), *stage(), *stage(), Block(c), nn.Conv2d(c, 3, 3, padding=1))
    net.load_state_dict(state, strict=True, assign=True)
    net = net.to(memory_format=torch.channels_last).eval()
    return lambda z: net(z.contiguous(memory_format=torch.channels_last)) * 2 - 1


@torch.inference_mode()
def check(args):
    def file(name):
        return os.path.join(args.testdata, name)

    worst = 0.0

    def compare(name, got, want):
        """Beside the tolerance, 1e-5 of the value may differ: TAESD's goldens reach some tens."""
        nonlocal worst
        diff = ((got - want).abs() - 1e-5 * want.abs()).max().item()
        worst = diff if math.isnan(diff) else max(worst, diff)  # max() would drop a NaN
        print(f"{name}: {diff:.2e}")

    net, io = unet(file("musetalk/models/musetalkV15/unet.pth"), torch.float32), load_file(file("musetalk/unet/io.safetensors"))
    for case in ("b1_16x16", "b3_16x16", "b2_32x32"):
        if f"{case}.sample" in io:
            compare("UNet " + case, generate(net, io[f"{case}.sample"], io[f"{case}.audio"]), io[f"{case}.out"])
    decode, io = vae(file("latentsync/models/vae/diffusion_pytorch_model.safetensors"), torch.float32), load_file(file("latentsync/vae_f8/io.safetensors"))
    for case in ("h64_w64", "h96_w64"):
        compare("VAE " + case, decode(SCALE * io[f"{case}.mean"]), io[f"{case}.decoded"])
    decode, io = taesd(file("taesd/diffusion_pytorch_model.safetensors"), torch.float32), load_file(file("taesd/io.safetensors"))
    for case, latents, image in (("h64_w64", "latent2", "decoded2"), ("h96_w64", "latent", "decoded")):
        compare("TAESD " + case, decode(io[f"{case}.{latents}"]), io[f"{case}.{image}"])
    if not worst <= args.tolerance:
        sys.exit(f"largest difference {worst:.2e} is above {args.tolerance:.0e}")
    print(f"ok: largest difference {worst:.2e}")


@torch.inference_mode()
def time_frames(args):
    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.dtype]

    def prepare():
        net = unet(args.unet, dtype)
        decode = {"full": vae, "tiny": taesd}[args.decoder](args.vae, dtype)
        keep_freed_memory()
        latents = formula((args.frames, 8, args.latent, args.latent), 0.2, dtype)
        tokens = formula((args.frames, 50, net.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.in_features), 0.5, dtype)

        def step():
            cpu, start = time.process_time(), time.perf_counter()
            generated = generate(net, latents, tokens)
            middle = time.perf_counter()
            image = decode(generated)
            end = time.perf_counter()
            if not torch.isfinite(image).all():
                sys.exit("the result has values that are not finite")
            return {"unet_seconds": middle - start, "decoder_seconds": end - middle, "cpu_seconds": time.process_time() - cpu}

        return step

    stepped(prepare, peer="torch", version=torch.__version__, dtype=args.dtype, decoder=args.decoder,
            frames=args.frames, latent=args.latent, threads=args.threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("check", help="compare with the original's results")
    p.add_argument("--testdata", default=os.path.join(os.path.dirname(__file__), "../../testdata"), help="the source's folder testdata")
    p.add_argument("--tolerance", type=float, default=2e-4)
    p.set_defaults(run=check)
    p = commands.add_parser("time", help="time a batch of frames for each line of the standard input")
    p.add_argument("--unet", required=True, help="the UNet's checkpoint, unet.pth")
    p.add_argument("--vae", required=True, help="the autoencoder's checkpoint")
    p.add_argument("--decoder", choices=["full", "tiny"], default="full")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--frames", type=int, default=4, help="frames of a batch")
    p.add_argument("--latent", type=int, default=32, help="side of the latents")
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(run=time_frames)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
