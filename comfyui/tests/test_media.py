import hashlib
import json
import os
import random
import subprocess
import tempfile
import unittest
from fractions import Fraction

import numpy as np

from support import package

media = package("media")


def video(count=5, width=37, height=22, fps=Fraction(25)):
    frames = np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return frames, media.Video(count, width, height, fps, lambda k, a, b: frames[k, a:b])


def written(source):
    f = tempfile.NamedTemporaryFile(suffix=".bin")
    for data in source.chunks(0, source.size):
        f.write(data)
    f.flush()
    return f


class VideoTest(unittest.TestCase):
    def test_ffmpeg_decodes_the_same_bytes(self):
        for count, width, height, fps in ((5, 37, 22, Fraction(25)), (1, 2, 2, Fraction(30000, 1001)), (7, 640, 1001, Fraction(24000, 1001))):
            frames, source = video(count, width, height, fps)
            with written(source) as f:
                self.assertEqual(os.path.getsize(f.name), source.size)
                probe = json.loads(subprocess.run(["ffprobe", "-v", "error", "-show_entries", "stream=width,height,pix_fmt,r_frame_rate,field_order:format=duration", "-of", "json", f.name],
                                                  check=True, capture_output=True).stdout)
                stream = probe["streams"][0]
                self.assertEqual((stream["width"], stream["height"], stream["pix_fmt"]), (width, height, "rgb24"))
                if count > 1:  # a single frame has no measurable rate
                    self.assertEqual(stream["r_frame_rate"], f"{fps.numerator}/{fps.denominator}")
                self.assertAlmostEqual(float(probe["format"]["duration"]), float(count / fps), places=2)
                md5 = subprocess.run(["ffmpeg", "-v", "error", "-i", f.name, "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-f", "framemd5", "-"], check=True, capture_output=True, text=True)
                sums = [line.split(",")[-1].strip() for line in md5.stdout.splitlines() if not line.startswith("#")]
                self.assertEqual(md5.stderr, "")
                self.assertEqual(sums, [hashlib.md5(x.tobytes()).hexdigest() for x in frames])

    def test_any_range_is_the_same(self):
        _, source = video()
        whole = b"".join(source.chunks(0, source.size))
        rnd = random.Random(2)
        for _ in range(200):
            a, b = sorted(rnd.randrange(source.size + 1) for _ in range(2))
            self.assertEqual(b"".join(source.chunks(a, b)), whole[a:b])

    def test_pieces_are_small(self):
        asked = []
        source = media.Video(1, 7680, 4320, Fraction(25), lambda k, a, b: asked.append(b - a) or np.zeros((b - a, 7680, 3), np.uint8))
        self.assertEqual(sum(map(len, source.chunks(0, source.size))), source.size)
        self.assertLessEqual(max(asked) * 7680 * 3, 1 << 20)

    def test_rates(self):
        for fps, want in ((25.0, "25"), (23.976, "24000/1001"), (29.97, "30000/1001"), (59.94, "60000/1001"), (24.0, "24"), (12.5, "25/2"), (1.0, "1")):
            self.assertEqual(str(media.rate(fps)), want)

    def test_values(self):
        nan = float("nan")
        got = media.to_bytes(np.array([-1, 0, 0.5 / 255, 0.51 / 255, 1, 2, nan, float("inf")], np.float32))
        self.assertEqual(got.tolist(), [0, 0, 0, 1, 255, 255, 0, 255])
        every = np.arange(256, dtype=np.uint8)
        self.assertEqual(media.to_bytes(every.astype(np.float32) / 255).tolist(), every.tolist())


class SoundTest(unittest.TestCase):
    def test_ffmpeg_decodes_the_same_samples(self):
        for channels in (1, 2, 6):
            wave = np.random.default_rng(3).standard_normal((channels, 30_001)).astype(np.float32)
            source = media.Sound(wave.shape[1], channels, 44100, lambda a, b: wave[:, a:b].T)
            with written(source) as f:
                self.assertEqual(os.path.getsize(f.name), source.size)
                out = subprocess.run(["ffmpeg", "-v", "error", "-i", f.name, "-f", "f32le", "-"], check=True, capture_output=True)
                self.assertEqual(out.stderr, b"")
                self.assertEqual(out.stdout, wave.T.tobytes())
            whole = b"".join(source.chunks(0, source.size))
            for a, b in ((0, 50), (3, 99), (101, 8001), (source.size - 3, source.size)):
                self.assertEqual(b"".join(source.chunks(a, b)), whole[a:b])

    def test_more_than_4_gb(self):
        count = 700_000_000
        source = media.Sound(count, 2, 48000, lambda a, b: np.zeros((b - a, 2), np.float32))
        with tempfile.NamedTemporaryFile() as f:  # sparse
            f.write(next(source.chunks(0, 200)))
            f.truncate(source.size)
            f.flush()
            out = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", f.name], check=True, capture_output=True, text=True)
            self.assertAlmostEqual(float(out.stdout), count / 48000, places=1)


if __name__ == "__main__":
    unittest.main()
