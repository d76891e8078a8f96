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
from .client import Client, Failure, FileSource, Source

log = logging.getLogger("lipstream")

STEPS, GUIDANCE = 20, 1.5  # the defaults of LatentSync; the other engines have neither

# Shares of the progress bar: where the upload ends, and where the job ends.
SENT, DONE = 0.1, 0.9


# Settings that both nodes have under the names or with the types of the original node.
OWN = {"engine", "profile", "memory_limit", "fps", "seed", "steps", "guidance", "length"}
# Settings of the output file, which LatentSyncNode chooses itself.
FILE = {"codec", "crf", "preset", "start", "end"}
# The newest setting when mask, face_2 and audio_2 were added, which follow it.
LATEST = "deepcache_threshold"
FACE_2 = "right"


def _server() -> Tuple[str, Dict[str, Any]]:
    return "STRING", {"default": "", "tooltip": "Address of a server, such as http://127.0.0.1:8448. Empty: LIPSTREAM_SERVER if it is set, otherwise this machine."}


def _settings(fps: float, without: Collection[str], audio_2: Any) -> Dict[str, Any]:
    """Returns the optional inputs of both nodes, given that for the voice of a second
    face. New ones come last, because workflows store the values of inputs by position."""
    later = {
        "mask": ("MASK", {"tooltip": "Where the video may change: not where the mask is 0, wholly where it is 1. One mask is for all frames."}),
        "face_2": ("STRING", {"default": FACE_2, "tooltip": "Which face speaks the second voice: largest, center, left, right, or the number from the left. The input face, or the largest, speaks the first."}),
        "audio_2": audio_2,
    }
    given: Dict[str, Any] = {}
    for name, entry in settings.inputs(without).items():
        given[name] = entry
        if name == LATEST:
            given.update(later)
    kind, info = settings.entry(settings.field("profile"))
    return {
        "engine": settings.entry(settings.field("engine")),
        "profile": (kind, {**info, "tooltip": info["tooltip"] + " All except auto also set inference_steps and lips_expression if these have their defaults."}),
        "memory_limit_gb": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 4096.0, "step": 0.1, "tooltip": "In GB: " + settings.tooltip(settings.field("memory_limit"), "0")}),
        "fps": ("FLOAT", {"default": fps, "min": 0.0 if fps == 0 else 1.0, "max": 240.0, "step": 0.001,
                          "tooltip": settings.tooltip(settings.field("fps"), "0") if fps == 0 else "Frame rate of the images."}),
        "server": _server(),
        **given,
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
    def work(say: Callable[[str], None]) -> Tuple[Client, bool]:
        client = service.connect(server, say)
        workers = client.json("GET", "/v1/devices").get("workers") or []
        if engine not in ("auto", "preview") and workers and not any(engine in w.get("engines", [engine]) for w in workers):
            # The server would let the job wait for a worker with this engine.
            pull = {"latentsync": "1.6"}.get(engine, engine)
            raise Failure(f"the server at {client.url} has no checkpoint for {engine}", f"run there: lipstream models pull {pull}, and start the server again, or choose another engine")
        able = [w for w in workers if client.local and engine != "preview" and set(w.get("engines", [])) - {"preview"}]
        return client, any(not d.get("name", "").lower().startswith("cpu") for w in able for d in w.get("devices") or [])

    return host.supervise(work, host.check, host.write)


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

    A field such as speakers.1.audio lies inside others.
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
            _put(spec, field, {"upload": client.upload(name, source, lambda n: say(SENT * (before + n) / total, "uploading the inputs"))})
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
                if jpeg:
                    shown = time.monotonic()
            say(SENT + (DONE - SENT) * job.share(event), job.line(event), jpeg)

        record = client.follow(on_event)
        summary = _summary(record.get("result") or {})
        log.info("lipstream: %s", summary)
        say(DONE, summary)
        fetch(client, record, lambda part: say(DONE + (1 - DONE) * part))

    with service.working(client):
        host.supervise(work, host.check, lambda m: progress.show(*m), client.abort)
    client.clean(remove=True)
    progress.show(1.0)


def _put(spec: Dict[str, Any], field: str, value: Any) -> None:
    at: Any = spec
    *path, last = field.split(".")
    for key in path:
        at = at[int(key) if key.isdigit() else key]
    at[last] = value


def _two(spec: Dict[str, Any], more: Dict[str, Any]) -> None:
    """Gives the job two speakers."""
    spec["speakers"] = [{"face": spec.pop("face", "largest")}, {"face": more.get("face_2", FACE_2).strip()}]


class LatentSyncNode:
    """Makes the person in the images speak the audio.

    images is [frames, height, width, 3] from 0 to 1; audio keeps its own rate. The
    result is as long as the audio, as with the original: longer images are cut, and
    shorter ones are played back and forth. For another rule, put a VideoLengthAdjuster
    before this node. The audio is returned unchanged. With audio_2, a second face speaks
    it at the same time, and the mix of both is returned.
    """

    CATEGORY = "LatentSyncNode"
    RETURN_TYPES = ("IMAGE", "AUDIO")
    RETURN_NAMES = ("images", "audio")
    FUNCTION = "inference"

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",), "audio": ("AUDIO",), **_model()},
            "optional": _settings(25.0, OWN | FILE, ("AUDIO",)),
        }

    def inference(self, images: Any, audio: Dict[str, Any], seed: int, lips_expression: float = GUIDANCE, inference_steps: int = STEPS,
                  engine: str = "auto", profile: str = "auto", memory_limit_gb: float = 0.0, fps: float = 25.0, server: str = "", **more: Any) -> Tuple[Any, Any]:
        from . import media

        rate = media.rate(fps)
        audio_2: Optional[Dict[str, Any]] = more.get("audio_2")
        wave, second = _wave(audio), _wave(audio if audio_2 is None else audio_2)
        if images.shape[0] < 1 or images.shape[-1] < 3 or wave.shape[-1] < 1 or second.shape[-1] < 1:
            voices = f"audio {tuple(wave.shape)}" + (f", audio_2 {tuple(second.shape)}" if audio_2 is not None else "")
            raise RuntimeError(f"the images or the audio cannot be used: images {tuple(images.shape)}, {voices}")
        spec = _spec(engine, profile, memory_limit_gb, seed, lips_expression, inference_steps, more)
        inputs: List[Tuple[str, str, Source]] = [("video", "comfyui.mkv", _video(images, rate)), ("audio", "comfyui.wav", _sound(wave, audio["sample_rate"])), *_mask(more.get("mask"), rate)]
        frames = media.frames_of(wave.shape[-1], int(audio["sample_rate"]), rate)
        if audio_2 is not None:
            _two(spec, more)
            inputs[1:2] = [("speakers.0.audio", *inputs[1][1:]), ("speakers.1.audio", "comfyui-2.wav", _sound(second, audio_2["sample_rate"]))]
            frames = max(frames, media.frames_of(second.shape[-1], int(audio_2["sample_rate"]), rate))
            audio = _mix(audio, audio_2)
        # Lossless in both directions, and not split, because joined parts differ slightly
        # at their seams. The original LatentSync treats lengths as "pingpong" does.
        spec.update(name=service.NAME + ".mkv", codec="ffv1", length="pingpong", split=-1, fps=str(rate))
        result: List[Any] = []

        def fetch(client: Client, job: Dict[str, Any], say: Callable[[float], None]) -> None:
            client.frames(lambda width, height, count: _into(width, height, count, result, say))

        with _two_lines():
            _run(server, spec, inputs, frames, fetch)
        return result[0], audio


def _wave(audio: Dict[str, Any]) -> Any:
    """Returns the samples of an AUDIO, [channels, samples]."""
    wave = audio["waveform"]
    return wave[0] if wave.dim() == 3 else wave.reshape(-1, wave.shape[-1])


def _mix(a: Dict[str, Any], b: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the sum of two sounds, at the rate of the first, lowered if it would be louder than full scale."""
    import torch

    rate, one, two = int(a["sample_rate"]), *(_wave(s).detach().cpu().float() for s in (a, b))
    if int(b["sample_rate"]) != rate:
        size = max(1, round(two.shape[-1] * rate / int(b["sample_rate"])))
        two = torch.nn.functional.interpolate(two[None], size=size, mode="linear")[0]
    channels, samples = max(one.shape[0], two.shape[0]), max(one.shape[-1], two.shape[-1])
    total = torch.zeros((channels, samples))
    for wave in (one, two):
        total[:, :wave.shape[-1]] += wave if wave.shape[0] == channels else wave.mean(0, keepdim=True)
    peak = float(total.abs().max())
    return {"waveform": (total / peak if peak > 1 else total)[None], "sample_rate": rate}


def _video(images: Any, rate: Fraction) -> Source:
    """Returns an IMAGE as a file. Only some rows of a frame are converted at a time."""
    from . import media

    def pixels(frame: int, first: int, last: int) -> Any:
        return media.to_bytes(images[frame, first:last, :, :3].detach().cpu().float().numpy())

    count, height, width = images.shape[:3]
    return media.Video(count, width, height, rate, pixels)


def _mask(mask: Any, rate: Fraction) -> List[Tuple[str, str, Source]]:
    """Returns a MASK [frames, height, width] as an input of a job, or nothing if there is none."""
    from . import media

    if mask is None:
        return []
    mask = mask.reshape(-1, *mask.shape[-2:])

    def pixels(frame: int, first: int, last: int) -> Any:
        return media.gray(mask[frame, first:last].detach().cpu().float().numpy())

    return [("mask", "comfyui-mask.mkv", media.Video(mask.shape[0], mask.shape[2], mask.shape[1], rate, pixels))]


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
                **_settings(0.0, OWN, ("STRING", {"default": "", "tooltip": "The voice of a second face: an absolute path, or a file in the input folder. Empty: one face speaks."})),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, video: Optional[str] = None, audio: Optional[str] = None, audio_2: Optional[str] = None) -> Any:
        for path in (video, audio, audio_2 or None):  # None: the input is linked, so the path is not known yet
            if path is not None and not os.path.isfile(host.input_path(path)):
                return f"{path!r} is not a file"
        return True

    @classmethod
    def IS_CHANGED(cls, video: Optional[str] = None, audio: Optional[str] = None, audio_2: Optional[str] = "", **_: Any) -> Any:
        """Returns a value that changes when a file is written again. Paths of linked inputs
        are not known, so these always count as changed."""
        if video is None or audio is None or audio_2 is None:
            return float("nan")
        marks = []
        for path in (video, audio, *filter(None, [audio_2])):
            try:
                st = os.stat(host.input_path(path))
                marks.append((st.st_mtime_ns, st.st_size))
            except OSError:
                marks.append((0, 0))
        return str(marks)

    def run(self, video: str, audio: str, output_name: str, seed: int = 1247, lips_expression: float = GUIDANCE, inference_steps: int = STEPS,
            length: str = "pad", engine: str = "auto", profile: str = "auto", memory_limit_gb: float = 0.0, fps: float = 0.0, server: str = "", **more: Any) -> Dict[str, Any]:
        from . import media

        mask, audio_2 = more.get("mask"), more.get("audio_2", "")
        if mask is not None and fps == 0 and mask.reshape(-1, *mask.shape[-2:]).shape[0] > 1:
            raise RuntimeError("the mask has several frames, but nothing says how long they last\nset fps to the frame rate of the video, or use one mask")

        spec = _spec(engine, profile, memory_limit_gb, seed, lips_expression, inference_steps, more)
        spec.update(name=service.NAME + host.safe_name(output_name)[1], length=length)
        if fps > 0:
            spec["fps"] = str(media.rate(fps))
        paths = [("video", video), ("audio", audio)]
        if audio_2:
            _two(spec, more)
            paths[1:] = [("speakers.0.audio", audio), ("speakers.1.audio", audio_2)]
        inputs = _mask(mask, media.rate(fps or 25.0))
        kept = ""
        with _two_lines(), contextlib.closing(host.Output(output_name)) as output, contextlib.ExitStack() as files:
            for field, path in ((field, host.input_path(path)) for field, path in paths):
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
            history = host.supervise(lambda say: service.connect(server, say).json("GET", "/v1/memory"), host.check, host.write).get("history") or []
        lines = [f"{w['name']}: {w['used'] / 1e9:.2f} of {w['total'] / 1e9:.2f} GB, {w['level']}" for w in (history[-1]["watched"] if history else [])]
        text = "\n".join(lines) or "the server has no reading yet"
        host.write(text)
        return {"ui": {"text": [text]}, "result": (text, anything)}
