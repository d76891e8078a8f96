#!/usr/bin/env python3
"""Load ONNX Runtime's CUDA provider with the libraries of PyTorch, without PyTorch.  load.py FOLDER

The order is Lipstream's: what a library needs is loaded before it, by its path.
"""

import ctypes
import glob
import importlib.util
import pathlib
import sys

ORDER = ["cudart.so.13", "cublasLt.so.13", "cublas.so.13", "curand.so.10", "nvrtc.so.13", "cufft.so.12", "cudnn.so.9"]


def folders():
    """Where Python packages have NVIDIA's libraries."""
    for module in ("nvidia", "torch"):
        spec = importlib.util.find_spec(module)
        for d in (spec.submodule_search_locations or []) if spec else []:
            yield from glob.glob(d + "/**/lib", recursive=True)


def load(path, mode=ctypes.RTLD_LOCAL):
    try:
        ctypes.CDLL(str(path), mode=mode)
        print("ok", path)
        return True
    except OSError as e:
        print("FAILED", path, e)
        return False


def main():
    places, good = list(dict.fromkeys(folders())), True
    print("folders:", *places)
    good &= load("libcuda.so.1")
    for name in ORDER:
        found = [p for d in places if (p := pathlib.Path(d, "lib" + name)).exists()]
        if found:
            good &= load(found[0])
        else:
            print("missing lib" + name)
    ort = pathlib.Path(sys.argv[1])
    good &= load(ort / "libonnxruntime_providers_shared.so", ctypes.RTLD_GLOBAL)
    good &= load(ort / "libonnxruntime_providers_cuda.so")
    sys.exit(not good)


main()
