#!/usr/bin/env python3
"""Writes identity.json: similarities, SSIM and colour differences by scikit-image.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install numpy==2.4.6 scikit-image==0.26.0
    /tmp/golden/bin/python internal/bench/testdata/identity.py
"""

import base64
import json
import os

import numpy as np
from skimage import color, metrics, transform

# insightface, python-package/insightface/utils/face_align.py
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32)


def fit(points):
    form = transform.SimilarityTransform.from_estimate(points, ARCFACE)
    return {"points": points.tolist(), "matrix": form.params[:2].ravel().tolist()}


def main():
    rng = np.random.default_rng(1)
    faces = []
    for angle, scale in (0.1, 2.5), (-1.2, 0.7), (3.0, 6.0):
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        faces.append(np.round(ARCFACE @ turn.T + [300, 200] + scale * rng.normal(size=(5, 2)), 3))
    a = rng.integers(0, 256, (20, 17), np.uint8)
    b = np.clip(a + rng.normal(size=a.shape) * 20, 0, 255).astype(np.uint8)
    _, full = metrics.structural_similarity(a, b, data_range=255, full=True)
    colours = np.array([[0, 0, 0], [255, 255, 255], [224, 172, 150], [210, 160, 145], [3, 8, 1], [20, 60, 220]])
    lab = color.rgb2lab(colours[None] / 255)[0]
    golden = {
        "faces": [fit(f) for f in faces],
        "a": base64.b64encode(a.tobytes()).decode(),
        "b": base64.b64encode(b.tobytes()).decode(),
        "width": a.shape[1],
        "ssim": float(full[3:-3, 3:-3].mean()),
        "ssim_row_5": float(full[5, 3:-3].mean()),
        "colours": colours.tolist(),
        "distances": [float(np.linalg.norm(x - y)) for x, y in zip(lab, lab[1:])],
    }
    path = os.path.join(os.path.dirname(__file__), "identity.json")
    with open(path, "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
