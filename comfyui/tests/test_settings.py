import json
import os
import threading
import time
import unittest
from unittest import mock

import harness
from fake import Fake
from support import package, root

nodes, service, settings = (package(n) for n in ("nodes", "service", "settings"))

with open(os.path.join(harness.PACKAGE, "settings.json"), encoding="utf-8") as f:
    BUILTIN = json.load(f)["settings"]


def sample(f):
    """Returns a value of an input other than its default."""
    kind, info = settings.entry(f)
    if isinstance(kind, list):
        return next(c for c in reversed(kind) if c != info["default"])
    return info["max"] if kind in ("INT", "FLOAT") else "1:30" if f.get("unit") == "s" else "text"


class InputsTest(unittest.TestCase):
    def setUp(self):
        self.use([])

    def use(self, served):
        """Sets the server's description of the settings, or none."""
        for patch in (mock.patch.object(settings, "_served", served), mock.patch.object(settings, "_asked", time.monotonic())):
            patch.start()
            self.addCleanup(patch.stop)

    def optional(self, node):
        return root.NODE_CLASS_MAPPINGS[node].INPUT_TYPES()["optional"]

    def test_every_setting_is_an_input(self):
        own = {"memory_limit": "memory_limit_gb", "steps": "inference_steps", "guidance": "lips_expression"}
        for node, without in (("LatentSyncNode", nodes.FILE | {"length"}), ("LipstreamRun", set())):
            types = root.NODE_CLASS_MAPPINGS[node].INPUT_TYPES()
            inputs = {**types["required"], **types["optional"]}
            for f in BUILTIN:
                self.assertEqual(own.get(f["name"], f["name"]) in inputs, f["name"] not in without, f"{node}: {f['name']}")

    def test_inputs_follow_the_description(self):
        inputs = self.optional("LipstreamRun")
        for f in BUILTIN:
            if f["name"] in nodes.OWN - {"engine", "profile", "length"}:
                continue
            kind, info = inputs[f["name"]]
            self.assertTrue(info["tooltip"].startswith(f["help"]), f["name"])
            self.assertEqual(info.get("advanced", False), f.get("advanced", False), f["name"])
            if "choices" in f:
                self.assertEqual([c for c in kind if c], f["choices"])
                self.assertIn(info["default"], kind)
            elif kind in ("INT", "FLOAT"):
                self.assertLess(info["default"], f["min"])
                self.assertEqual(info["max"], f["max"])
            elif "multiple" in f:
                self.assertTrue(all(int(c) % f["multiple"] == 0 and f["min"] <= int(c) <= f["max"] for c in kind[1:]), f["name"])
            else:
                self.assertEqual((kind, info["default"]), ("STRING", f.get("default", "")))
        self.assertEqual(inputs["vae_tile"][0][:3], ["", "0", "64"])
        self.assertEqual(inputs["overlap"][1]["default"], -1)  # 0 has a meaning
        self.assertEqual(inputs["windows"][1]["default"], 0)

    def test_only_what_was_set_is_sent(self):
        extra = {n: e[1]["default"] for n, e in settings.inputs(nodes.OWN).items()}
        self.assertEqual(settings.given(extra), {})
        self.assertEqual(settings.given({"device": "  ", "unknown": 1}), {})
        for f in BUILTIN:
            if f["name"] in extra:
                value = sample(f)
                sent = settings.given({**extra, f["name"]: value})
                number = {"integer": int, "number": float}.get(f["type"]) if f.get("unit") not in ("s", "bytes") else None
                self.assertEqual(sent, {f["name"]: number(value) if number else value})
        self.assertEqual(settings.given({"overlap": 0, "vae_tile": "0", "crf": 0}), {"overlap": 0, "vae_tile": 0, "crf": 0})

    def test_settings_reach_the_job(self):
        spec = nodes._spec("auto", "auto", 0.0, 7, 1.5, 20, {"deepcache": 2, "sampler": "dpm++", "silence": "", "threads": 0})
        self.assertEqual(spec, {"engine": "auto", "profile": "auto", "seed": 7, "deepcache": 2, "sampler": "dpm++"})

    def test_the_server_comes_first(self):
        """The server's settings replace those of the same name, and its additional ones come last."""
        before = list(self.optional("LatentSyncNode"))
        self.use([{"name": "novel", "help": "New.", "type": "number", "min": 0.5, "max": 2},
                  {"name": "sampler", "help": "Other samplers.", "type": "string", "choices": ["ddim", "euler"]}])
        inputs = self.optional("LatentSyncNode")
        self.assertEqual(list(inputs), before + ["novel"])
        self.assertEqual(inputs["sampler"][0], ["", "ddim", "euler"])
        self.assertEqual(inputs["novel"], ("FLOAT", {"default": 0.0, "min": 0.0, "max": 2.0, "tooltip": "New."}))
        self.assertEqual(settings.given({"novel": 1.25}), {"novel": 1.25})


class AskTest(unittest.TestCase):
    def setUp(self):
        for patch in (mock.patch.object(settings, "_served", []), mock.patch.object(settings, "_asked", float("-inf")),
                      mock.patch.object(service, "_spawn", side_effect=AssertionError("a server was started"))):
            patch.start()
            self.addCleanup(patch.stop)

    def asked(self, client):
        with mock.patch.object(service, "running", client):
            settings.fields()
            return settings.fields()

    def test_a_running_server_is_asked_once(self):
        fake = Fake().start()
        self.addCleanup(fake.stop)
        fake.settings = [{"name": "novel", "help": "New.", "type": "string"}]
        with mock.patch.object(settings, "WAIT", None), mock.patch.dict(os.environ, LIPSTREAM_SERVER=fake.url):
            for _ in range(3):
                self.assertEqual(settings.fields()[-1]["name"], "novel")
        self.assertEqual(fake.seen, ["GET /v1/options"])

    def test_no_server(self):
        with mock.patch.dict(os.environ, LIPSTREAM_SERVER="http://127.0.0.1:1"):
            self.assertEqual(settings.fields(), BUILTIN)

    def test_answers_of_something_else(self):
        for answer in ([], {}, {"settings": 3}, {"settings": [3]}, {"settings": [{"name": "x"}]}, None):
            settings._asked = float("-inf")
            self.assertEqual(self.asked(lambda: mock.Mock(json=lambda *a, **k: answer)), BUILTIN)

    def test_a_silent_server_does_not_block(self):
        """The nodes load with their own description."""
        release = threading.Event()
        self.addCleanup(release.set)

        def silent():
            release.wait()
            raise package("client").Failure("too late")

        self.assertEqual(self.asked(silent), BUILTIN)


if __name__ == "__main__":
    unittest.main()
