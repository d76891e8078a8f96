"""Frames and sound as files that are made while they are sent.

The size of both is known beforehand, and they can begin at any byte, so that a
broken upload continues where it stopped. The module needs only numpy.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Callable, Iterator

import numpy as np

from .client import BLOCK, Source


def rate(fps: float) -> Fraction:
    """Returns a frame rate as the fraction that it stands for: 23.976 is 24000/1001."""
    ntsc = round(fps * 1.001)
    if abs(fps - ntsc / 1.001) < 5e-4 and abs(fps - round(fps)) > 1e-3:
        return Fraction(ntsc * 1000, 1001)
    return Fraction(fps).limit_denominator(1001)


def _element(ident: str, data: bytes) -> bytes:
    """Returns an EBML element. Sizes always take 8 bytes."""
    return bytes.fromhex(ident) + struct.pack(">Q", len(data) | 1 << 56) + data


def _number(ident: str, value: int) -> bytes:
    return _element(ident, value.to_bytes(8, "big"))


class Video(Source):
    """Uncompressed frames in Matroska: V_UNCOMPRESSED, RGB24, rows from top to bottom.

    pixels(frame, first, last) returns the rows [first, last) of a frame as a
    contiguous uint8 array [rows, width, 3].
    """

    def __init__(self, count: int, width: int, height: int, fps: Fraction,
                 pixels: Callable[[int, int, int], np.ndarray]):
        self._pixels, self._fps = pixels, fps
        self._height, self._row = height, 3 * width
        self._lead = len(self._prefix(0))
        self._unit = self._lead + height * self._row  # a cluster, with one frame
        track = (_number("D7", 1) + _number("73C5", 1) + _number("83", 1) + _number("9C", 0)
                 + _number("23E383", round(1e9 / fps))  # DefaultDuration, ns
                 + _element("86", b"V_UNCOMPRESSED")
                 + _element("E0", _number("B0", width) + _number("BA", height) + _element("2EB524", b"RGB\x18")))
        info = (_number("2AD7B1", 1000)  # times are in microseconds
                + _element("4489", struct.pack(">d", float(count * 1_000_000 / fps)))
                + _element("4D80", b"comfyui-lipstream") + _element("5741", b"comfyui-lipstream"))
        body = _element("1549A966", info) + _element("1654AE6B", _element("AE", track))
        ebml = _element("1A45DFA3", _element("4282", b"matroska") + _number("4287", 4) + _number("4285", 2))
        segment = bytes.fromhex("18538067") + struct.pack(">Q", len(body) + count * self._unit | 1 << 56)
        self._head = ebml + segment + body
        self.size = len(self._head) + count * self._unit

    def _prefix(self, frame: int) -> bytes:
        """Returns the bytes before a frame's pixels: the cluster, its time, and the block of a key frame."""
        time = _number("E7", round(frame * 1_000_000 / self._fps))
        block = self._height * self._row + 4
        inner = time + b"\xa3" + struct.pack(">Q", block | 1 << 56) + b"\x81\x00\x00\x80"
        return bytes.fromhex("1F43B675") + struct.pack(">Q", len(inner) + block - 4 | 1 << 56) + inner

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        rows = max(1, BLOCK // self._row)
        while start < end:
            if start < len(self._head):
                data = self._head[start:]
            else:
                frame, at = divmod(start - len(self._head), self._unit)
                lead = self._prefix(frame)[at:] if at < self._lead else b""
                first, skip = divmod(max(0, at - self._lead), self._row)
                band = self._pixels(frame, first, min(first + rows, self._height))
                data = lead + band.tobytes()[skip:]
            yield data[:end - start]
            start += len(data)


class Sound(Source):
    """Samples as a WAV file of 32-bit floats (RF64 beyond 4 GB).

    samples(first, last) returns the samples [first, last) as an array [samples, channels].
    """

    def __init__(self, count: int, channels: int, sample_rate: int, samples: Callable[[int, int], np.ndarray]):
        self._samples, self._frame = samples, 4 * channels
        self._count = count
        size = count * self._frame
        # WAVE_FORMAT_EXTENSIBLE with the GUID of IEEE floats, which more than two channels need.
        form = struct.pack("<HHIIHHHHI", 0xFFFE, channels, sample_rate, sample_rate * self._frame, self._frame, 32, 22, 32, 0) \
            + bytes.fromhex("0300000000001000800000aa00389b71")
        rest = b"fmt " + struct.pack("<I", len(form)) + form + b"fact" + struct.pack("<II", 4, min(count, 0xFFFFFFFF))
        if size + 200 < 1 << 32:
            self._head = b"RIFF" + struct.pack("<I", 4 + len(rest) + 8 + size) + b"WAVE" + rest + b"data" + struct.pack("<I", size)
        else:
            ds64 = b"ds64" + struct.pack("<IQQQI", 28, 4 + 36 + len(rest) + 8 + size, size, count, 0)
            self._head = b"RF64\xff\xff\xff\xffWAVE" + ds64 + rest + b"data\xff\xff\xff\xff"
        self.size = len(self._head) + size

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        many = max(1, BLOCK // self._frame)
        while start < end:
            if start < len(self._head):
                data = self._head[start:]
            else:
                first, skip = divmod(start - len(self._head), self._frame)
                data = np.ascontiguousarray(self._samples(first, min(first + many, self._count)), dtype="<f4").tobytes()[skip:]
            yield data[:end - start]
            start += len(data)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Converts 0..1 to 0..255, rounded. Values outside are clipped, and NaN becomes 0."""
    v = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    np.clip(v, 0.0, 1.0, out=v)
    v *= 255.0
    return np.rint(v, out=v).astype(np.uint8)


def gray(values: np.ndarray) -> np.ndarray:
    """Converts a mask [rows, width] of 0..1 to gray pixels [rows, width, 3]."""
    return np.repeat(to_bytes(values)[..., None], 3, axis=2)


def frames_of(samples: int, sample_rate: int, fps: Fraction) -> int:
    """Returns about how many frames a sound lasts."""
    return math.ceil(samples * fps / sample_rate) if sample_rate > 0 else 0
