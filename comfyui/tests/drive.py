"""Runs a workflow in API format on a server, through the harness, and measures it.

    drive.py workflow --server URL --workflow FILE.json [--set NODE.INPUT=VALUE ...]
                      [--frames FILE.npy] [--input FOLDER] --out FOLDER [--interrupt]

With --interrupt, the run is cancelled after the first frame of a job.

With --frames, LoadFrames replaces LoadImage.
NODE is an id or a class. A value is JSON, or otherwise text. In addition to Lipstream's
nodes there are LoadImage, LoadAudio (WAV), LoadFrames (path of a .npy, uint8
[frames, height, width, 3]), CreateVideo, SaveVideo, SaveImage, PreviewImage and
PreviewAudio (the last five write nothing).

Prints one JSON object: "ok"; "error" with the exception's type and text, or
"interrupted"; "frames", "width", "height" and "md5" (of each frame as RGB24) of the
first IMAGE of the last node that made one; "audio" in the same way; "strings" by node;
"progress" (number of calls), "progress_last", "previews"; "unloads"; "seconds"; and
memory in bytes: "baseline" (resident before the run), "peak" (VmHWM above it),
"tensors" (distinct ones of all outputs), "overhead" (peak minus tensors).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import wave as wavefile
from typing import Any, Dict, List

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np
import torch

import harness


def found(path: str) -> str:
    import folder_paths

    return path if os.path.isabs(path) else os.path.join(folder_paths.get_input_directory(), path)


class LoadImage:
    RETURN_TYPES, FUNCTION = ("IMAGE", "MASK"), "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, image):
        return os.stat(found(image)).st_mtime

    @classmethod
    def VALIDATE_INPUTS(cls, image):
        return True if os.path.isfile(found(image)) else f"Invalid image file: {image}"

    def load(self, image):
        from PIL import Image

        a = np.asarray(Image.open(found(image)).convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(a)[None], torch.zeros((1, 64, 64))


class LoadAudio:
    RETURN_TYPES, FUNCTION = ("AUDIO",), "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("STRING", {})}}

    def load(self, audio):
        with wavefile.open(found(audio)) as f:
            assert f.getsampwidth() == 2, "16 bits only"
            a = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float32) / 32768
            return ({"waveform": torch.from_numpy(a.reshape(-1, f.getnchannels()).T.copy())[None], "sample_rate": f.getframerate()},)


def as_image(read, count: int, height: int, width: int) -> torch.Tensor:
    """Returns one tensor with all frames of an RGB24 stream, which is read frame by frame."""
    out = torch.empty((count, height, width, 3))
    flat = out.numpy()
    buffer = bytearray(height * width * 3)
    for k in range(count):
        view = memoryview(buffer)
        while view:
            n = read(view)
            assert n, f"only {k} frames of {count}"
            view = view[n:]
        np.divide(np.frombuffer(buffer, np.uint8).reshape(height, width, 3), np.float32(255), out=flat[k], dtype=np.float32)
    return out


class LoadFrames:
    RETURN_TYPES, FUNCTION = ("IMAGE",), "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {})}}

    def load(self, path):
        with open(found(path), "rb") as f:
            version = np.lib.format.read_magic(f)
            shape, fortran, kind = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(f)
            assert kind == np.uint8 and not fortran and len(shape) == 4
            return (as_image(f.readinto, *shape[:3]),)


class Nothing:
    OUTPUT_NODE, RETURN_TYPES, FUNCTION = True, (), "take"

    def take(self, **_):
        return ()


class SaveImage(Nothing):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})}}


class CreateVideo(Nothing):
    OUTPUT_NODE, RETURN_TYPES = False, ("VIDEO",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "fps": ("FLOAT", {"default": 30.0, "min": 1.0, "max": 120.0})}, "optional": {"audio": ("AUDIO",)}}

    def take(self, images, fps, audio=None):
        return ({"images": images, "fps": fps, "audio": audio},)


class SaveVideo(Nothing):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"video": ("VIDEO",), "filename_prefix": ("STRING", {"default": "video/ComfyUI"}),
                             "format": (["auto", "mp4"], {"default": "auto"}), "codec": (["auto", "h264"], {"default": "auto"})}}


class PreviewImage(Nothing):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}


class PreviewAudio(Nothing):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",)}}


NODES = {c.__name__: c for c in (LoadImage, LoadAudio, LoadFrames, CreateVideo, SaveVideo, SaveImage, PreviewImage, PreviewAudio)}


def resident(what: str) -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith(what + ":"))


def tensors(outputs: Dict[str, list]) -> Dict[int, int]:
    """Returns the sizes of all tensors among the outputs, in bytes, by the address of their storage."""
    all_: Dict[int, int] = {}

    def walk(x: Any) -> None:
        if isinstance(x, torch.Tensor):
            storage = x.untyped_storage() if hasattr(x, "untyped_storage") else x.storage()
            all_[storage.data_ptr()] = storage.nbytes()
        elif isinstance(x, dict):
            [walk(v) for v in x.values()]
        elif isinstance(x, (list, tuple)):
            [walk(v) for v in x]

    walk(list(outputs.values()))
    return all_


def main(argv: List[str]) -> int:
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["workflow"])
    p.add_argument("--server", default="")
    p.add_argument("--workflow", required=True)
    p.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE")
    p.add_argument("--frames", default="")
    p.add_argument("--input", default="")
    p.add_argument("--out", required=True)
    p.add_argument("--interrupt", action="store_true")
    a = p.parse_args(argv)

    host = harness.install(os.path.abspath(a.out))
    if a.input:
        import folder_paths

        folder_paths.get_input_directory = lambda: os.path.abspath(a.input)
    package = harness.load()
    executor = harness.Executor({**NODES, **package.NODE_CLASS_MAPPINGS})
    with open(a.workflow, encoding="utf-8") as f:
        prompt = json.load(f)
    for node in prompt.values():
        if a.frames and node["class_type"] == "LoadImage":
            node.update(class_type="LoadFrames", inputs={"path": a.frames})
        cls = package.NODE_CLASS_MAPPINGS.get(node["class_type"])
        if a.server and cls and "server" in cls.INPUT_TYPES().get("optional", {}):
            node["inputs"]["server"] = a.server
    for text in a.set:
        where, _, value = text.partition("=")
        ident, _, name = where.partition(".")
        chosen = [n for i, n in prompt.items() if ident in (i, n["class_type"])]
        if not chosen:
            p.error(f"no node {ident}")
        try:
            value = json.loads(value)
        except ValueError:
            pass
        for node in chosen:
            node["inputs"][name] = value

    import comfy.model_management as mm

    if a.interrupt:
        host.on_progress = lambda value, total: mm.interrupt_current_processing(value > 100)
    report: Dict[str, Any] = {"ok": False}
    if os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")  # resets the peak
    report["baseline"] = resident("VmRSS")
    start, outputs = time.monotonic(), {}
    try:
        outputs = executor.run(prompt)
        report["ok"] = True
    except harness.InterruptProcessingException:
        report["interrupted"] = True
    except Exception as e:
        report["error"] = {"type": type(e).__name__, "text": str(e), "chained": bool(e.__cause__ or (e.__context__ and not e.__suppress_context__))}
    report["seconds"] = round(time.monotonic() - start, 3)
    report["peak"] = resident("VmHWM") - report["baseline"]
    report["tensors"] = sum(tensors(outputs).values())
    report["overhead"] = report["peak"] - report["tensors"]
    report.update(progress=len(host.progress), progress_last=host.progress[-1] if host.progress else None,
                  previews=len(host.previews), unloads=host.unloads, executed=executor.executed,
                  strings={i: [v for v in out if isinstance(v, str)] for i, out in outputs.items() if any(isinstance(v, str) for v in out)})
    for ident in reversed(executor.executed):
        for value in outputs.get(ident, []):
            if isinstance(value, torch.Tensor) and value.dim() == 4 and "md5" not in report:
                report.update(frames=value.shape[0], height=value.shape[1], width=value.shape[2], md5=[])
                for k in range(value.shape[0]):
                    frame = (value[k] * 255).round().to(torch.uint8).numpy()
                    report["md5"].append(hashlib.md5(frame.tobytes()).hexdigest())
            if isinstance(value, dict) and "waveform" in value and "audio" not in report:
                w = value["waveform"]
                report["audio"] = {"shape": list(w.shape), "sample_rate": value["sample_rate"], "md5": hashlib.md5(w.contiguous().numpy().tobytes()).hexdigest()}
    print(json.dumps(report))
    return 0 if report["ok"] or "interrupted" in report else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
