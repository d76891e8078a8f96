#!/usr/bin/env python3
"""Take most of a card's free memory when a line is read, and hold it.  hog.py DEVICE LEAVE_MIB SECONDS

On a CPU, where other programs need the memory, it takes 64 MiB.
"""

import sys
import time

import torch

device, leave, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
size = 64 * 2**20
if not sys.stdin.readline():
    sys.exit("hog: the job has ended before")
if device.startswith("cuda"):
    torch.zeros(1, device=device)  # the context takes memory itself
    free, _ = torch.cuda.mem_get_info(device)
    size = max(free - leave * 2**20, 0)
held = torch.ones(size, dtype=torch.uint8, device=device)
print(f"hog: {size / 2**20:.0f} MiB taken", flush=True)
time.sleep(seconds)
