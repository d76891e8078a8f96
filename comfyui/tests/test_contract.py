import os
import re
import subprocess
import sys
import unittest

import harness
from support import package, root

client, nodes, service, hostmod = (package(n) for n in ("client", "nodes", "service", "host"))
HERE = os.path.dirname(os.path.abspath(__file__))


class ContractTest(unittest.TestCase):
    """The nodes have the same inputs as the old wrapper."""

    def test_old_interface(self):
        c = root.NODE_CLASS_MAPPINGS
        self.assertEqual(c["LatentSyncNode"].INPUT_TYPES()["required"], {
            "images": ("IMAGE",), "audio": ("AUDIO",), "seed": ("INT", {"default": 1247}),
            "lips_expression": ("FLOAT", {"default": 1.5, "min": 1.0, "max": 3.0, "step": 0.1}),
            "inference_steps": ("INT", {"default": 20, "min": 1, "max": 999, "step": 1})})
        self.assertEqual(list(c["LatentSyncNode"].INPUT_TYPES()["optional"])[:5], ["engine", "profile", "memory_limit_gb", "fps", "server"])
        self.assertEqual(c["LatentSyncNode"].INPUT_TYPES()["optional"]["engine"][0], ["auto", "preview", "musetalk", "latentsync"])
        self.assertEqual(list(c["LipstreamRun"].INPUT_TYPES()["optional"])[:9],
                         ["seed", "lips_expression", "inference_steps", "length", "engine", "profile", "memory_limit_gb", "fps", "server"])
        self.assertEqual(c["VideoLengthAdjuster"].INPUT_TYPES(), {"required": {
            "images": ("IMAGE",), "audio": ("AUDIO",), "mode": (["normal", "pingpong", "loop_to_audio"], {"default": "normal"}),
            "fps": ("FLOAT", {"default": 25.0, "min": 1.0, "max": 120.0}),
            "silent_padding_sec": ("FLOAT", {"default": 0.5, "min": 0.1, "max": 3.0, "step": 0.1})}})
        for name, function in (("LatentSyncNode", "inference"), ("VideoLengthAdjuster", "adjust")):
            self.assertEqual((c[name].RETURN_TYPES, c[name].RETURN_NAMES, c[name].FUNCTION, c[name].CATEGORY), (("IMAGE", "AUDIO"), ("images", "audio"), function, "LatentSyncNode"))

    def test_saved_workflows(self):
        """Workflows store the values of inputs by position: the first ones are those of the first version, in its order."""
        first = ("face start end codec crf preset backend device threads resolution sampler deepcache silence precision overlap parity memory_warning memory_alert "
                 "frames_per_window windows offload vae_frames vae_tile attention_slices shrink_every return_every vae").split()
        later = "keep_tracks deinterlace restore restore_strength guidance_from guidance_to guidance_threshold deepcache_threshold mask face_2 audio_2 weights guidance_every".split()
        for node, before, without in (("LatentSyncNode", ["engine", "profile", "memory_limit_gb", "fps", "server"], nodes.FILE),
                                      ("LipstreamRun", ["seed", "lips_expression", "inference_steps", "length", "engine", "profile", "memory_limit_gb", "fps", "server"], set())):
            want = before + [n for n in first + later if n not in without]
            self.assertEqual(list(root.NODE_CLASS_MAPPINGS[node].INPUT_TYPES()["optional"])[:len(want)], want, node)

    def test_signatures(self):
        import inspect

        for name, cls in root.NODE_CLASS_MAPPINGS.items():
            inputs = [n for part in cls.INPUT_TYPES().values() for n in part]
            parameters = list(inspect.signature(getattr(cls, cls.FUNCTION)).parameters.values())[1:]
            named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
            self.assertEqual(inputs[:len(named)], named, name)
            if len(named) == len(parameters):
                self.assertEqual(inputs, named, name)
            self.assertIn(name, root.NODE_DISPLAY_NAME_MAPPINGS)

    def test_one_version(self):
        with open(os.path.join(harness.PACKAGE, "pyproject.toml")) as f:
            self.assertEqual(re.search(r'^version = "(.+)"', f.read(), re.M)[1], client.VERSION)

    def test_loads_light(self):
        """The package loads without torch and ComfyUI."""
        code = ("import sys; sys.modules.update(torch=None, comfy=None, numpy=None, PIL=None, folder_paths=None)\n"
                f"sys.path.insert(0, {HERE!r}); import harness; print(sorted(harness.load().NODE_CLASS_MAPPINGS))")
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertIn("LipstreamRun", out.stdout)
        self.assertEqual(out.stderr, "")


if __name__ == "__main__":
    unittest.main()
