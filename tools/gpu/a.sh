#!/usr/bin/env bash
# Step A: what the machine has, and whether ONNX Runtime's CUDA provider loads.
here=$(cd "$(dirname "$0")" && pwd)
BUDGET=${BUDGET:-120}
. "$here/kit.sh"

part unpack 60 bash -c 'rm -rf "$KIT/ort" && "$PYTHON" "$0/unpack.py" "$0" "$KIT/ort"' "$here"
part nvidia-smi 20 nvidia-smi
part card 20 nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader,nounits
part machine 30 bash -c 'uname -a; nproc; free -g; df -h "$KIT"; ldconfig -p | grep -E "libcuda.so|libnvidia-ml|libvulkan"; command -v gcc cc; "$PYTHON" --version'
part torch 60 "$PYTHON" -c 'import torch, triton; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), triton.__version__, torch.cuda.is_available())'
part load 60 "$PYTHON" "$here/load.py" "$KIT/ort"
