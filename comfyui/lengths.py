"""VideoLengthAdjuster: makes images and audio equally long."""

from __future__ import annotations

import math
from typing import Any, Dict, Tuple


class VideoLengthAdjuster:
    """Cuts or repeats frames, and pads or cuts the audio. The mode says how:

    normal: adds silence to the audio, then cuts the longer of the two.
    pingpong: if the audio is longer, adds silence to it and plays the frames back and
        forth until its end; if it is shorter, pads it with silence to the frames' end.
    loop_to_audio: adds silence to the audio, then repeats or cuts the frames to its end.

    Allocates one tensor of frames, or none if no frame is repeated.
    """

    CATEGORY = "LatentSyncNode"
    RETURN_TYPES = ("IMAGE", "AUDIO")
    RETURN_NAMES = ("images", "audio")
    FUNCTION = "adjust"

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {"required": {
            "images": ("IMAGE",),
            "audio": ("AUDIO",),
            "mode": (["normal", "pingpong", "loop_to_audio"], {"default": "normal"}),
            "fps": ("FLOAT", {"default": 25.0, "min": 1.0, "max": 120.0}),
            "silent_padding_sec": ("FLOAT", {"default": 0.5, "min": 0.1, "max": 3.0, "step": 0.1}),
        }}

    def adjust(self, images: Any, audio: Dict[str, Any], mode: str, fps: float = 25.0,
               silent_padding_sec: float = 0.5) -> Tuple[Any, Dict[str, Any]]:
        """Returns images and audio of equal length. images is [frames, height, width, channels]
        from 0 to 1, and audio is {"waveform": [1, channels, samples], "sample_rate": Hz}."""
        import torch

        rate = int(audio["sample_rate"])
        wave = audio["waveform"]
        wave = wave[:1] if wave.dim() == 3 else wave.reshape(1, -1, wave.shape[-1])
        frames, samples = images.shape[0], wave.shape[-1]
        padded = samples + math.ceil(silent_padding_sec * rate)
        if mode == "pingpong" and samples / rate <= frames / fps:
            count, length = frames, max(samples, int(frames / fps * rate))
        elif mode == "normal":
            count, length = min(frames, int(padded / rate * fps)), padded
            if count == frames:
                length = min(padded, int(frames / fps * rate))
        else:
            count, length = math.ceil(padded / rate * fps), padded
        if count <= frames:
            out = images if count == frames else images[:count]
        else:
            index = torch.arange(count, device=images.device)
            period = max(1, 2 * frames - 2) if mode == "pingpong" else frames
            index %= period
            out = torch.index_select(images, 0, torch.where(index < frames, index, period - index))
        if length > samples:
            wave = torch.nn.functional.pad(wave, (0, length - samples))
        return out, {"waveform": wave[..., :length], "sample_rate": rate}
