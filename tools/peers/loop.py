#!/usr/bin/env python3
"""Times the original's denoising loop in PyTorch: float32, DDIM, guidance.

It denoises one window: in each step the UNet runs with and without the voice, as
a batch of two, followed by a step of DDIM. Only some steps are run, after one to
warm up. All steps do the same work, so a window takes --steps times the median.
Encoding and decoding by the VAE is not included.
"""

import argparse
import json
import statistics

import torch

from measure import measured
from unet import formula, keep_freed_memory, load

TRAIN_STEPS = 1000  # of the noise schedule


def alphas():
    """The products of 1 - beta: scaled-linear from 0.00085 to 0.012, as the original's scheduler."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, 0)


def ddim(noise, sample, now, before):
    """A step of DDIM without added noise, between two products of alphas."""
    clean = (sample - (1 - now) ** 0.5 * noise) / now**0.5
    return before**0.5 * clean + (1 - before) ** 0.5 * noise


class Loop:
    def __init__(self, net, steps, frames, latent, guidance):
        self.net, self.guidance, self.at = net, guidance, 0
        width = net.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.in_features
        self.alphas = alphas()
        self.stride = TRAIN_STEPS // steps
        # steps_offset 1, "leading" spacing: 951, 901, ... 1 for 20 steps
        self.times = [i * self.stride + 1 for i in reversed(range(steps))]
        # Initial noise, and beside it what does not change: mask, masked and whole picture.
        self.sample = formula((1, net.conv_out.out_channels, frames, latent, latent), 0.2)
        self.rest = formula((1, net.conv_in.in_channels - net.conv_out.out_channels, frames, latent, latent), 0.5)
        voice = formula((frames, 50, width), 0.8)
        self.voice = torch.cat([torch.zeros_like(voice), voice])

    def step(self):
        t = self.times[self.at % len(self.times)]
        self.at += 1
        both = torch.cat([self.sample, self.rest], dim=1).expand(2, -1, -1, -1, -1)
        without, heard = self.net(both, t, self.voice).chunk(2)
        noise = without + self.guidance * (heard - without)
        now = self.alphas[t]
        before = self.alphas[t - self.stride] if t >= self.stride else self.alphas[0]
        self.sample = ddim(noise, self.sample, now, before)
        if not torch.isfinite(self.sample).all():
            raise SystemExit("loop.py: the result has values that are not finite")


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="checkpoint of the UNet, .pt or .safetensors")
    parser.add_argument("--steps", type=int, default=20, help="steps of a window")
    parser.add_argument("--steps-measured", type=int, default=3, help="steps to time, after one to warm up")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-freed", action="store_true", help="keep the memory that tensors free: faster, but needs more memory")
    args = parser.parse_args()
    if min(args.steps, args.steps_measured, args.frames, args.latent, args.threads) < 1 or args.steps > TRAIN_STEPS:
        parser.error("numbers must be above 0, and --steps at most 1000")
    torch.set_num_threads(args.threads)

    def prepare():
        loop = Loop(load(args.checkpoint, torch.float32), args.steps, args.frames, args.latent, args.guidance)
        if args.keep_freed:
            keep_freed_memory()
        return loop.step

    result = measured(prepare, args.steps_measured, peer="torch", version=torch.__version__, dtype="f32", frames=args.frames,
                      latent=args.latent, guidance=args.guidance, threads=args.threads, keep_freed=args.keep_freed)
    result["window_steps"] = args.steps
    result["seconds_per_window"] = round(args.steps * statistics.median(result["step_seconds"]), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
