"""The nodes: LatentSyncNode, LipstreamRun and LipstreamMemory."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import time
from fractions import Fraction
from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Tuple

from . import host, service, settings
from .client import Client, Failure, FileSource, Source, supervise

log = logging.getLogger("lipstream")

STEPS, GUIDANCE = 20, 1.5  # the defaults of LatentSync; the other engines have neither

# Shares of the progress bar: where the upload ends, and where the job ends.
SENT, DONE = 0.1, 0.9


# Settings that both nodes have under the names or with the types of the original node.
OWN = {"engine", "profile", "memory_limit", "fps", "seed", "steps", "guidance", "length"}
# Settings of the output file, which LatentSyncNode chooses itself.
FILE = {"codec", "crf", "preset", "start", "end"}


def _server() -> Tuple[str, Dict[str, Any]]:
    return "STRING", {"default": "", "tooltip": "Address of a server, such as http://127.0.0.1:8448. Empty: LIPSTREAM_SERVER if it is set, otherwise this machine."}


def _settings(fps: float, without: Collection[str]) -> Dict[str, Any]:
    """Returns the optional inputs of both nodes. New ones come last, because
    workflows store the values of inputs by position."""
    kind, info = settings.entry(settings.field("profile"))
    return {
        "engine": settings.entry(settings.field("engine")),
        "profile": (kind, {**info, "tooltip": info["tooltip"] + " All except auto also set inference_steps and lips_expression if these have their defaults."}),
        "memory_limit_gb": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 4096.0, "step": 0.1, "tooltip": "In GB: " + settings.tooltip(settings.field("memory_limit"), "0")}),
        "fps": ("FLOAT", {"default": fps, "min": 0.0 if fps == 0 else 1.0, "max": 240.0, "step": 0.001,
                          "tooltip": settings.tooltip(settings.field("fps"), "0") if fps == 0 else "Frame rate of the images."}),
        "server": _server(),
        **settings.inputs(without),
    }


def _model() -> Dict[str, Any]:
    """Returns the inputs of the original LatentSyncNode."""
    return {
        "seed": ("INT", {"default": 1247}),
        "lips_expression": ("FLOAT", {"default": GUIDANCE, "min": 1.0, "max": 3.0, "step": 0.1}),
        "inference_steps": ("INT", {"default": STEPS, "min": 1, "max": 999, "step": 1}),
    }


def _spec(engine: str, profile: str, memory_limit_gb: float, seed: int, lips_expression: float, inference_steps: int, more: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the part of a job's specification that both nodes share."""
    spec: Dict[str, Any] = {**settings.given(more), "engine": engine, "profile": profile, "seed": int(seed) & (1 << 63) - 1 if seed != -1 else random.getrandbits(63)}
    if memory_limit_gb > 0:
        spec["memory_limit"] = int(memory_limit_gb * 1e9)
    # The widgets' defaults must not replace those of a profile, and engines without steps would warn of them.
    if inference_steps != STEPS:
        spec["steps"] = int(inference_steps)
    if abs(lips_expression - GUIDANCE) > 1e-6:
        spec["guidance"] = round(float(lips_expression), 4)
    return spec


def _connect(server: str, engine: str) -> Tuple[Client, bool]:
    """Returns a client, and whether the job may run on a GPU of this machine. Cancel can interrupt it."""
    def work(_: Any) -> Tuple[Client, bool]:
        client = service.connect(server)
        workers = client.json("GET", "/v1/devices").get("workers") or []
        if engine not in ("auto", "preview") and workers and not any(engine in w.get("engines", [engine]) for w in workers):
            # The server would let the job wait for a worker with this engine.
            pull = {"latentsync": "1.6"}.get(engine, engine)
            raise Failure(f"the server at {client.url} has no checkpoint for {engine}", f"run there: lipstream models pull {pull}, and start the server again, or choose another engine")
        able = [w for w in workers if client.local and engine != "preview" and set(w.get("engines", [])) - {"preview"}]
        return client, any(not d.get("name", "").lower().startswith("cpu") for w in able for d in w.get("devices") or [])

    return supervise(work, host.check)


WINDOW = 12  # new frames in each window of LatentSync, by default
PHASES = {"probe": "reading the inputs", "load": "loading the networks", "listen": "listening to the voice", "finish": "finishing"}


class _Work:
    """The progress of all tasks of a job, from its events."""

    def __init__(self, expected: int) -> None:
        self._expected, self._tasks = expected, {}

    def share(self, event: Dict[str, Any]) -> float:
        """Returns the share of the work that is done after a progress event, 0 to 1."""
        if event.get("phase") == "frames" and event.get("frames"):
            self._tasks[event.get("task", 0)] = (event.get("frame", 0), event["frames"])
        done, known = self._frames()
        all_ = max(known, self._expected, 1)
        if event.get("steps"):  # the frames of the current window are all done after its last step
            done += min(WINDOW, all_ - done) * event.get("step", 0) / event["steps"]
        return min(1.0, done / all_)

    def _frames(self) -> Tuple[int, int]:
        done, known = (sum(t[i] for t in self._tasks.values()) for i in (0, 1))
        return done, known

    def line(self, event: Dict[str, Any]) -> str:
        """Returns the progress in words."""
        if event.get("phase") != "frames":
            return PHASES.get(event.get("phase", ""), "")
        done, known = self._frames()
        parts = [f"frame {done}" + (f" of {known}" if known else "")]
        if event.get("steps"):
            parts.append(f"step {event.get('step', 0)} of {event['steps']}")
        if event.get("eta_s", 0) > 0:
            parts.append(f"{_clock(event['eta_s'])} left")
        if event.get("memory_now", 0) > 0:
            parts.append(f"{event['memory_now'] / 1e9:.1f} GB")
        return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, s = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{s:02}" if minutes >= 60 else f"{minutes}:{s:02}"


def _log(kind: str, event: Dict[str, Any]) -> None:
    """Logs events that the user may need to look up later."""
    text = event.get("message", "")
    if kind == "start":
        log.info("lipstream: engine %s%s", event.get("engine", ""), f" ({text})" if text else "")
    elif kind in ("warning", "alert", "plan") and text:
        log.log(logging.INFO if kind == "plan" else logging.WARNING, "lipstream: %s", text + (f"; {event['hint']}" if event.get("hint") else ""))


def _summary(result: Dict[str, Any]) -> str:
    """Returns the line that the node shows after a successful job."""
    text = f"{result.get('frames', 0)} frames in {_clock(result.get('elapsed', 0))} by {result.get('engine', '')}, at most {result.get('memory_peak', 0) / 1e9:.1f} GB"
    if result.get("no_face"):
        text += f"; {result['no_face']} frames without a usable face are unchanged"
    return text


@contextlib.contextmanager
def _two_lines() -> Iterator[None]:
    """Turns failures into errors of two lines that ComfyUI shows: what happened, and what to do."""
    try:
        yield
    except Failure as e:
        raise RuntimeError(str(e)) from None


def _run(server: str, spec: Dict[str, Any], inputs: List[Tuple[str, str, Source]], expected: int,
         fetch: Callable[[Client, Dict[str, Any], Callable[[float], None]], None]) -> None:
    """Uploads inputs (field of the specification, name, content), runs the job and fetches its result.

    fetch(client, record, say) gets the result in another thread and calls say with its progress, 0 to 1.
    """
    client, gpu = _connect(server, spec["engine"])
    if gpu:
        host.unload_models()
    progress = host.Progress()
    total = max(1, sum(s.size for _, _, s in inputs))

    def work(send: Callable[[Tuple[float, str, bytes]], None]) -> None:
        def say(share: float, text: str = "", jpeg: bytes = b"") -> None:
            send((share, text, jpeg))

        before = 0
        for field, name, source in inputs:
            spec[field] = {"upload": client.upload(name, source, lambda n: say(SENT * (before + n) / total, "uploading the inputs"))}
            before += source.size
        client.submit(spec)
        say(SENT, "waiting in the queue")
        job, tag, shown = _Work(expected), "", 0.0

        def on_event(kind: str, event: Dict[str, Any]) -> None:
            nonlocal tag, shown
            if kind != "progress":
                return _log(kind, event)
            jpeg = b""
            if event.get("phase") == "frames" and time.monotonic() - shown >= 1.0:
                tag, jpeg = client.preview(tag)
                shown = time.monotonic()
            say(SENT + (DONE - SENT) * job.share(event), job.line(event), jpeg)

        record = client.follow(on_event)
        summary = _summary(record.get("result") or {})
        log.info("lipstream: %s", summary)
        say(DONE, summary)
        fetch(client, record, lambda part: say(DONE + (1 - DONE) * part))

    with service.working(client):
        supervise(work, host.check, lambda m: progress.show(*m), client.abort)
    client.clean(remove=True)
    progress.show(1.0)


class LatentSyncNode:
    """Makes the person in the images speak the audio.

    images is [frames, height, width, 3] from 0 to 1; audio keeps its own rate. The
    result is as long as the audio, as with the original: longer images are cut, and
    shorter ones are played back and forth. For another rule, put a VideoLengthAdjuster
    before this node. The audio is returned unchanged.
    """

    CATEGORY = "LatentSyncNode"
    RETURN_TYPES = ("IMAGE", "AUDIO")
    RETURN_NAMES = ("images", "audio")
    FUNCTION = "inference"

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",), "audio": ("AUDIO",), **_model()},
            "optional": _settings(25.0, OWN | FILE),
        }

    def inference(self, images: Any, audio: Dict[str, Any], seed: int, lips_expression: float = GUIDANCE, inference_steps: int = STEPS,
                  engine: str = "auto", profile: str = "auto", memory_limit_gb: float = 0.0, fps: float = 25.0, server: str = "", **more: Any) -> Tuple[Any, Any]:
        from . import media

        rate = media.rate(fps)
        wave = audio["waveform"]
        wave = wave[0] if wave.dim() == 3 else wave.reshape(-1, wave.shape[-1])
        if images.shape[0] < 1 or images.shape[-1] < 3 or wave.shape[-1] < 1:
            raise RuntimeError(f"the images or the audio cannot be used: images {tuple(images.shape)}, audio {tuple(wave.shape)}")
        inputs: List[Tuple[str, str, Source]] = [("video", "comfyui.mkv", _video(images, rate)), ("audio", "comfyui.wav", _sound(wave, audio["sample_rate"]))]
        spec = _spec(engine, profile, memory_limit_gb, seed, lips_expression, inference_steps, more)
        # Lossless in both directions, and not split, because joined parts differ slightly
        # at their seams. The original LatentSync treats lengths as "pingpong" does.
        spec.update(name=service.NAME + ".mkv", codec="ffv1", length="pingpong", split=-1, fps=str(rate))
        result: List[Any] = []

        def fetch(client: Client, job: Dict[str, Any], say: Callable[[float], None]) -> None:
            client.frames(lambda width, height, count: _into(width, height, count, result, say))

        with _two_lines():
            _run(server, spec, inputs, media.frames_of(wave.shape[-1], int(audio["sample_rate"]), rate), fetch)
        return result[0], audio


def _video(images: Any, rate: Fraction) -> Source:
    """Returns an IMAGE as a file. Only some rows of a frame are converted at a time."""
    from . import media

    def pixels(frame: int, first: int, last: int) -> Any:
        return media.to_bytes(images[frame, first:last, :, :3].detach().cpu().float().numpy())

    count, height, width = images.shape[:3]
    return media.Video(count, width, height, rate, pixels)


def _sound(wave: Any, sample_rate: int) -> Source:
    """Returns a waveform [channels, samples] as a file."""
    from . import media

    return media.Sound(wave.shape[1], wave.shape[0], int(sample_rate),
                       lambda first, last: wave[:, first:last].detach().cpu().float().numpy().T)


def _into(width: int, height: int, count: int, result: List[Any], say: Callable[[float], None]) -> Callable[[int, memoryview], None]:
    """Makes the output tensor, and returns a function that writes bytes of frames into it."""
    import numpy as np
    import torch

    result[:] = [torch.empty((count, height, width, 3), dtype=torch.float32)]
    flat = result[0].view(-1).numpy()

    def put(offset: int, data: memoryview) -> None:
        np.divide(np.frombuffer(data, np.uint8), np.float32(255), out=flat[offset:offset + len(data)], dtype=np.float32)
        say((offset + len(data)) / flat.size)

    return put


class LipstreamRun:
    """Makes a video speak, from file to file: no frame goes through ComfyUI.

    video and audio are paths, absolute or in ComfyUI's input folder. The result goes
    into the output folder under a new name; path is its path.
    """

    CATEGORY = "Lipstream"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {
            "required": {
                "video": ("STRING", {"default": "", "tooltip": "The video or picture: an absolute path, or a file in the input folder."}),
                "audio": ("STRING", {"default": "", "tooltip": "The voice: an absolute path, or a file in the input folder."}),
                "output_name": ("STRING", {"default": "lipstream.mp4", "tooltip": "Name of the result, with the extension mp4, mov, mkv or webm. A number is added."}),
            },
            "optional": {
                **_model(),
                "length": settings.entry(settings.field("length")),
                **_settings(0.0, OWN),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, video: Optional[str] = None, audio: Optional[str] = None) -> Any:
        for path in (video, audio):  # None: the input is linked, so the path is not known yet
            if path is not None and not os.path.isfile(host.input_path(path)):
                return f"{path!r} is not a file"
        return True

    @classmethod
    def IS_CHANGED(cls, video: Optional[str] = None, audio: Optional[str] = None, **_: Any) -> Any:
        """Returns a value that changes when a file is written again. Paths of linked inputs
        are not known, so these always count as changed."""
        if video is None or audio is None:
            return float("nan")
        marks = []
        for path in (video, audio):
            try:
                st = os.stat(host.input_path(path))
                marks.append((st.st_mtime_ns, st.st_size))
            except OSError:
                marks.append((0, 0))
        return str(marks)

    def run(self, video: str, audio: str, output_name: str, seed: int = 1247, lips_expression: float = GUIDANCE, inference_steps: int = STEPS,
            length: str = "pad", engine: str = "auto", profile: str = "auto", memory_limit_gb: float = 0.0, fps: float = 0.0, server: str = "", **more: Any) -> Dict[str, Any]:
        from . import media

        spec = _spec(engine, profile, memory_limit_gb, seed, lips_expression, inference_steps, more)
        spec.update(name=service.NAME + host.safe_name(output_name)[1], length=length)
        if fps > 0:
            spec["fps"] = str(media.rate(fps))
        inputs: List[Tuple[str, str, Source]] = []
        kept = ""
        with _two_lines(), contextlib.closing(host.Output(output_name)) as output, contextlib.ExitStack() as files:
            for field, path in (("video", host.input_path(video)), ("audio", host.input_path(audio))):
                if not service.trusted(server) and not host.is_ours(path):
                    raise Failure(f"{path} is not in a folder of ComfyUI, and {server.strip()} is another machine", "to send other files there, set LIPSTREAM_SERVER to it")
                inputs.append((field, os.path.basename(path), files.enter_context(contextlib.closing(FileSource(path)))))

            def fetch(client: Client, job: Dict[str, Any], say: Callable[[float], None]) -> None:
                size = max(1, (job.get("result") or {}).get("size", 1))
                nonlocal kept
                client.result(output.file, lambda n: say(n / size))
                kept = output.keep()

            _run(server, spec, inputs, 0, fetch)
        shown = {"filename": os.path.basename(kept), "subfolder": "", "type": "output"}
        return {"ui": {"images": [shown], "animated": (True,)}, "result": (kept,)}


class _Any(str):
    """A type that matches all others, even in old versions of ComfyUI."""

    def __ne__(self, other: object) -> bool:
        return False


class LipstreamMemory:
    """Shows the use of the server's memory: host, control group and GPUs. It is read when
    the linked input arrives."""

    CATEGORY = "Lipstream"
    RETURN_TYPES = ("STRING", _Any("*"))
    RETURN_NAMES = ("memory", "anything")
    FUNCTION = "read"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {"required": {}, "optional": {"anything": (_Any("*"),), "server": _server()}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: Any = None) -> bool:
        return True  # any type is accepted

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")  # it always counts as changed

    def read(self, anything: Any = None, server: str = "") -> Dict[str, Any]:
        with _two_lines():
            history = supervise(lambda _: service.connect(server).json("GET", "/v1/memory"), host.check).get("history") or []
        lines = [f"{w['name']}: {w['used'] / 1e9:.2f} of {w['total'] / 1e9:.2f} GB, {w['level']}" for w in (history[-1]["watched"] if history else [])]
        text = "\n".join(lines) or "the server has no reading yet"
        host.write(text)
        return {"ui": {"text": [text]}, "result": (text, anything)}
