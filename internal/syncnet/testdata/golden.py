#!/usr/bin/env python3
"""Writes golden.json: MFCC by python_speech_features, scores as syncnet_python computes them.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install numpy==2.4.6 scipy==1.17.1 python_speech_features==0.6
    /tmp/golden/bin/python internal/syncnet/testdata/golden.py testdata/demo/speech.wav
"""

import base64
import json
import os
import sys

import numpy as np
import python_speech_features
from scipy import signal
from scipy.io import wavfile

SHIFT = 15


def scores(lips, sounds):
    """calc_pdist and what evaluate makes of it, in numpy."""
    padded = np.pad(sounds, ((SHIFT, SHIFT), (0, 0)))
    # torch's pairwise_distance adds eps = 1e-6 to each difference.
    rows = [np.linalg.norm(lips[i] - padded[i : i + 2 * SHIFT + 1] + 1e-6, axis=1) for i in range(len(lips))]
    mean = np.mean(rows, axis=0)
    best = int(np.argmin(mean))
    return {"offset": SHIFT - best, "confidence": float(np.median(mean) - mean[best]), "distance": float(mean[best])}


def track(rng, n, late, noise):
    """Embeddings in which the lips follow the sound by late windows."""
    common = np.cumsum(rng.normal(size=(n + 40, 12)), axis=0) * 0.5
    sounds = common[20 : 20 + n] + noise * rng.normal(size=(n, 12))
    lips = common[20 - late : 20 - late + n] + noise * rng.normal(size=(n, 12))
    lips, sounds = np.round(lips, 3), np.round(sounds, 3)
    return {"lips": lips.tolist(), "sounds": sounds.tolist(), **scores(lips, sounds)}


def main():
    rate, speech = wavfile.read(sys.argv[1])
    assert rate == 22050 and speech.dtype == np.int16
    # Not a resampled voice, only numbers like one's; then digital silence.
    sound = np.concatenate([speech[22050:24650], np.zeros(700, np.int16), speech[30000:30500]])
    rng = np.random.default_rng(1)
    values = np.round(50 + 20 * rng.normal(size=40), 2)
    golden = {
        "samples": base64.b64encode(sound.astype("<i2").tobytes()).decode(),
        "mfcc": np.round(python_speech_features.mfcc(sound, 16000), 9).tolist(),
        "tracks": [track(rng, 60, 0, 0.3), track(rng, 45, 4, 0.5), track(rng, 20, -3, 0.2), track(rng, 9, 1, 0.2)],
        "boxes": values.tolist(),
        "medfilt": signal.medfilt(values, kernel_size=13).tolist(),
    }
    path = os.path.join(os.path.dirname(__file__), "golden.json")
    with open(path, "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
