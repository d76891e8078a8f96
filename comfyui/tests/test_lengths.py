import math
import unittest

import torch

from support import root


def old(frames, samples, rate, mode, fps, padding):
    """Returns frame numbers and length of the audio by the rule of the old node, in plain lists."""
    all_ = list(range(frames))
    padded = samples + math.ceil(padding * rate)
    if mode == "normal":
        need = int(padded / rate * fps)
        return (all_[:need], padded) if frames > need else (all_, min(padded, int(frames / fps * rate)))
    if mode == "pingpong":
        if samples / rate <= frames / fps:
            return all_, int(frames / fps * rate)
        cycle = all_ + all_[::-1][1:-1]
    else:
        cycle = all_
    need = math.ceil(padded / rate * fps)
    return [cycle[i % len(cycle)] for i in range(need)], padded


class LengthsTest(unittest.TestCase):
    def test_like_the_old_node(self):
        node = root.VideoLengthAdjuster()
        for mode in ("normal", "pingpong", "loop_to_audio"):
            for frames in (1, 2, 3, 10, 60):
                for samples in (1, 999, 8000, 16000, 40000):
                    for fps, padding in ((25.0, 0.5), (23.976, 0.1), (7.0, 3.0)):
                        images = torch.arange(frames, dtype=torch.float32).view(-1, 1, 1, 1).expand(frames, 2, 2, 3).contiguous()
                        wave = torch.rand(1, 2, samples)
                        out, audio = node.adjust(images, {"waveform": wave, "sample_rate": 8000}, mode, fps, padding)
                        want, length = old(frames, samples, 8000, mode, fps, padding)
                        with self.subTest(mode=mode, frames=frames, samples=samples, fps=fps):
                            self.assertEqual(out[:, 0, 0, 0].int().tolist(), want)
                            self.assertEqual(tuple(audio["waveform"].shape), (1, 2, length))
                            n = min(length, samples)
                            self.assertTrue(torch.equal(audio["waveform"][..., :n], wave[..., :n]))
                            self.assertEqual(float(audio["waveform"][..., n:].abs().sum()), 0)

    def test_no_copy_where_none_is_needed(self):
        images = torch.rand(50, 4, 4, 3)
        out, _ = root.VideoLengthAdjuster().adjust(images, {"waveform": torch.rand(1, 1, 8000), "sample_rate": 8000}, "normal", 25.0, 0.5)
        self.assertEqual(out.shape[0], 37)
        self.assertEqual(out.data_ptr(), images.data_ptr())


if __name__ == "__main__":
    unittest.main()
