#!/bin/sh
# Makes a Python environment for the peers at PATH, from requirements.txt.
# Usage: tools/peers/setup.sh PATH   (the variable PYTHON selects another python3)
set -eu
if [ $# -ne 1 ]; then
	echo "usage: $0 PATH" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
requirements=$here/requirements.txt
if [ -e "$1" ]; then
	echo "$0: $1 exists; remove it or choose another path" >&2
	exit 1
fi
"$python" -m venv "$1"
if "$python" -c 'import platform, sys
sys.exit((sys.version_info[:2], platform.system(), platform.machine()) != ((3, 11), "Linux", "x86_64"))'; then
	"$1/bin/pip" install --require-hashes --no-deps -r "$requirements"
else
	# The hashes are for the wheels of one platform. The versions are the same.
	echo "$0: not CPython 3.11 on x86-64 Linux: installing without hashes" >&2
	grep -E '^(torch|openvino|onnx|onnxruntime|numpy|safetensors)==' "$requirements" | sed 's/ .*//' >"$1/requirements.txt"
	"$1/bin/pip" install -r "$1/requirements.txt"
fi
"$1/bin/python" -c 'import torch, openvino, onnx, onnxruntime, safetensors'
echo "ready: $1/bin/python $here/unet.py"
