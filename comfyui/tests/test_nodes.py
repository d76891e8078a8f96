import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

import numpy as np
import torch

import harness
from fake import Fake
from support import base, host, package, root, silence, wait

client, nodes, service, hostmod = (package(n) for n in ("client", "nodes", "service", "host"))
HERE = os.path.dirname(os.path.abspath(__file__))

import comfy.model_management as mm


class Source:
    """Returns the tensors that a test has made."""

    RETURN_TYPES, FUNCTION = ("IMAGE", "AUDIO", "MASK"), "give"
    images = torch.from_numpy(np.random.default_rng(4).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8).astype(np.float32) / 255)
    audio = {"waveform": torch.rand(1, 2, 48000), "sample_rate": 48000}
    mask = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def give(self):
        return self.images, self.audio, self.mask


class Sink:
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "take", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "audio": ("AUDIO",)}}

    def take(self, images, audio):
        return ()


def prompt(**inputs):
    return {"1": {"class_type": "Source", "inputs": {}},
            "2": {"class_type": "LatentSyncNode", "inputs": {"images": ["1", 0], "audio": ["1", 1], "seed": 7, "lips_expression": 1.5, "inference_steps": 20, **inputs}},
            "3": {"class_type": "Sink", "inputs": {"images": ["2", 0], "audio": ["2", 1]}}}


class Case(unittest.TestCase):
    def setUp(self):
        self.fake = Fake().start()
        self.addCleanup(self.fake.stop)
        mm.interrupt_current_processing(False)
        host.progress.clear(), host.previews.clear(), host.unloads.clear(), host.texts.clear()
        self.executor = harness.Executor({"Source": Source, "Sink": Sink, **root.NODE_CLASS_MAPPINGS})

    def run_node(self, **inputs):
        return self.executor.run(prompt(server=self.fake.url, **inputs))["2"]

    def interrupt_when_stalled(self):
        threading.Thread(target=lambda: (self.fake.stalled.wait(), mm.interrupt_current_processing()), daemon=True).start()

    def tidy(self):
        """Waits until only failed jobs are left on the server."""
        wait(lambda: not self.fake.uploads)
        wait(lambda: all(j["state"] == "failed" for j in self.fake.jobs.values()))


class LatentSyncTest(Case):
    def test_frames_come_back_without_loss(self):
        images, audio = self.run_node()
        self.assertEqual(images.dtype, torch.float32)
        self.assertTrue(torch.equal(images, Source.images))
        self.assertIs(audio["waveform"], Source.audio["waveform"])
        self.assertEqual(audio["sample_rate"], 48000)
        values = [v for v, _ in host.progress]
        self.assertEqual(values, sorted(values))
        self.assertEqual(host.progress[-1], (1000, 1000))
        self.assertEqual(host.previews[0][0], "JPEG")
        self.assertLessEqual(max(host.previews[0][1]), 512)
        self.assertEqual(host.unloads, [])
        self.tidy()

    def test_the_job_is_what_the_widgets_say(self):
        specs = []
        submit = client.Client.submit
        with mock.patch.object(client.Client, "submit", lambda c, spec: specs.append(dict(spec)) or submit(c, spec)):
            self.run_node(engine="preview", memory_limit_gb=3.5, fps=23.976, profile="balanced")
            self.run_node(seed=1 << 63, lips_expression=2.0, inference_steps=20)
            self.run_node(seed=-1)
        for s in specs:
            del s["video"], s["audio"]
        self.assertEqual(specs[0], {"engine": "preview", "profile": "balanced", "seed": 7, "memory_limit": 3_500_000_000,
                                    "name": service.NAME + ".mkv", "codec": "ffv1", "length": "pingpong", "split": -1, "fps": "24000/1001"})
        self.assertNotEqual(specs[2]["seed"], (1 << 63) - 1)  # -1 is a random seed, like in the old node
        self.assertEqual(specs[1], {"engine": "auto", "profile": "auto", "seed": 0, "guidance": 2.0,
                                    "name": service.NAME + ".mkv", "codec": "ffv1", "length": "pingpong", "split": -1, "fps": "25"})

    def test_two_voices(self):
        specs = []
        submit = client.Client.submit
        prompt_ = prompt(server=self.fake.url, engine="preview", face="left", face_2="right", audio_2=["4", 1])
        with mock.patch.object(client.Client, "submit", lambda c, spec: specs.append(dict(spec)) or submit(c, spec)):
            _, audio = self.executor.run({**prompt_, "4": {"class_type": "Source", "inputs": {}}})["2"]
        (spec,) = specs
        self.assertEqual([s["face"] for s in spec["speakers"]], ["left", "right"])
        uploads = [s["audio"]["upload"] for s in spec["speakers"]]
        self.assertEqual(len(set(uploads)), 2)
        self.assertNotIn("audio", spec)
        self.assertNotIn("face", spec)
        twice = 2 * Source.audio["waveform"]
        self.assertTrue(torch.allclose(audio["waveform"], twice / max(1, float(twice.max()))))
        short = {"waveform": torch.ones(1, 1, 100), "sample_rate": 24000}
        mixed = nodes._mix({"waveform": torch.zeros(1, 2, 100), "sample_rate": 48000}, short)["waveform"]
        self.assertEqual(tuple(mixed.shape), (1, 2, 200))
        self.assertTrue(torch.equal(mixed, torch.ones(1, 2, 200)))
        grad = {"waveform": torch.ones(1, 1, 100, requires_grad=True), "sample_rate": 48000}
        self.assertFalse(nodes._mix(grad, grad)["waveform"].requires_grad)
        with self.assertRaisesRegex(RuntimeError, r"audio_2 \(1, 0\)"):
            nodes.LatentSyncNode().inference(torch.zeros(1, 8, 8, 3), short, 1, audio_2={"waveform": torch.zeros(1, 1, 0), "sample_rate": 48000})

    def test_mask(self):
        """A mask is sent as a video; other inputs and nodes without one send none."""
        specs, sent = [], {}
        submit, upload = client.Client.submit, client.Client.upload

        def send(c, name, source, on_bytes):
            sent[name] = b"".join(source.chunks(0, source.size))
            return upload(c, name, source, on_bytes)

        mask = torch.zeros((1, 20, 25))
        mask[:, :, 5:] = 1
        with mock.patch.object(client.Client, "submit", lambda c, spec: specs.append(dict(spec)) or submit(c, spec)), \
                mock.patch.object(client.Client, "upload", send), mock.patch.object(Source, "mask", mask):
            self.run_node()
            self.assertNotIn("mask", specs[0])
            self.run_node(mask=["1", 2])
        self.assertIn("upload", specs[1]["mask"])
        row = b"\0" * 15 + b"\xff" * 60
        self.assertTrue(sent["comfyui-mask.mkv"].endswith(row * 20))
        for shape in ((20, 25), (3, 20, 25), (3, 1, 20, 25)):
            [(field, name, source)] = nodes._mask(torch.ones(shape), package("media").rate(25.0))
            self.assertEqual((field, source.size > 1500 * (3 if shape[0] == 3 else 1)), ("mask", True))
        with self.assertRaisesRegex(RuntimeError, "the mask has several frames"):
            root.NODE_CLASS_MAPPINGS["LipstreamRun"]().run("a.mp4", "a.wav", "b.mp4", mask=torch.ones((2, 4, 4)))
        self.tidy()

    def test_lines(self):
        """The node shows the progress, and the log has the messages."""
        self.fake.says = [{"type": "start", "engine": "preview", "message": "no checkpoint", "output": "/tmp/x"},
                          {"type": "progress", "phase": "load"},
                          {"type": "plan", "message": "8 frames per window"}, {"type": "alert", "message": "memory: 6 of 8 GB"},
                          {"type": "warning", "message": "the voice is quiet", "hint": "make it louder"}]
        with self.assertLogs("lipstream", "INFO") as logs:
            self.run_node()
        texts = [t for node, t in host.texts if node == "2"]
        for text in ("uploading the inputs", "waiting in the queue", "loading the networks", "frame 4 of 4, step 7 of 20, 1:02 left, 3.2 GB"):
            self.assertIn(text, texts)
        last = "24 frames in 0:04 by preview, at most 0.4 GB; 2 frames without a usable face are unchanged"
        self.assertEqual(texts[-1], last)
        self.assertEqual([(r.levelname, r.getMessage()) for r in logs.records], [
            ("INFO", "lipstream: engine preview (no checkpoint)"), ("INFO", "lipstream: 8 frames per window"),
            ("WARNING", "lipstream: memory: 6 of 8 GB"), ("WARNING", "lipstream: the voice is quiet; make it louder"), ("INFO", "lipstream: " + last)])

    def test_steps_move_the_bar(self):
        """The bar moves before the first frames of LatentSync, which may take minutes."""
        work, shares = nodes._Work(25), []
        for frame, step in ((0, 0), (0, 5), (0, 20), (12, 0), (12, 10), (24, 10), (25, 20)):
            shares.append(work.share({"phase": "frames", "frame": frame, "frames": 25, "step": step, "steps": 20}))
        self.assertEqual(shares, [0, 3 / 25, 12 / 25, 12 / 25, 18 / 25, 24.5 / 25, 1])

    def test_no_lines_in_old_versions(self):
        """The node shows no text if ComfyUI does not support it, or if no page is open."""
        with mock.patch.dict(sys.modules, server=None):
            self.run_node()
        with mock.patch.object(harness.PromptServer, "instance", mock.Mock(spec=["client_id", "last_node_id"])):
            self.run_node(seed=8)
        with mock.patch.object(harness.PromptServer, "client_id", None):
            self.run_node(seed=9)
        self.assertEqual(host.texts, [])

    def test_cached(self):
        self.run_node()
        self.assertEqual(self.executor.executed, ["1", "2", "3"])
        self.run_node()
        self.assertEqual(self.executor.executed, [])
        self.run_node(seed=8)
        self.assertEqual(self.executor.executed, ["2", "3"])

    def test_gpu_jobs_unload_models(self):
        self.fake.devices = ["cpu", "cuda:0"]
        self.run_node(seed=2)
        self.assertEqual(host.unloads, [])  # the preview engine needs no GPU
        self.fake.engines = ["preview", "latentsync"]
        self.run_node()
        self.assertEqual(host.unloads, ["unload_all_models", "soft_empty_cache"])
        self.run_node(engine="preview")
        self.assertEqual(len(host.unloads), 2)

    def test_an_engine_that_no_worker_has(self):
        for engine, pull in (("latentsync", "1.6"), ("musetalk", "musetalk")):
            with self.assertRaisesRegex(RuntimeError, f"has no checkpoint for {engine}\nrun there: lipstream models pull {pull}, "):
                self.run_node(engine=engine)
        self.fake.engines = ["preview", "musetalk", "latentsync"]
        for engine in ("latentsync", "musetalk"):
            self.run_node(engine=engine)

    def test_broken_connections(self):
        self.fake.break_after = [100, 30_000, 1]
        self.fake.break_frames = [5, 10_000]
        images, _ = self.run_node()
        self.assertTrue(torch.equal(images, Source.images))
        self.assertGreater(sum(s.startswith("HEAD") for s in self.fake.seen), 2)
        self.assertEqual(sum(s.endswith("/frames") for s in self.fake.seen), 3)

    def test_pieces_are_bounded(self):
        big = torch.zeros(6, 1024, 1024, 3)
        largest = []
        patch = Fake.__init__.__globals__["Handler"].patch_uploads
        with mock.patch.object(Source, "images", big), \
                mock.patch("fake.Handler.patch_uploads", lambda h, u, q: largest.append(int(h.headers["Content-Length"])) or patch(h, u, q)):
            self.run_node()
        self.assertEqual(max(largest), 16 << 20)

    def test_odd_images(self):
        rgba = torch.rand(2, 8, 8, 4, dtype=torch.float64) * 3 - 1
        with mock.patch.object(Source, "images", rgba):
            images, _ = self.run_node()
        want = (rgba[..., :3].float().clamp(0, 1) * 255).round() / 255
        self.assertTrue(torch.equal(images, want))
        with mock.patch.object(Source, "images", torch.rand(0, 8, 8, 3)):
            self.executor.cache.clear()
            with self.assertRaisesRegex(RuntimeError, "the images or the audio cannot be used"):
                self.run_node()

    def interrupted(self, stall):
        """Cancels a run while the server does not answer one of its requests."""
        self.fake.stall = stall
        self.interrupt_when_stalled()
        with self.assertRaises(harness.InterruptProcessingException):
            self.run_node()
        self.assertFalse(mm.processing_interrupted())

    def test_cancel_while_the_upload_is_stuck(self):
        self.interrupted("upload")
        self.assertFalse(self.fake.jobs)
        self.tidy()

    def test_cancel_while_the_events_are_silent(self):
        self.interrupted("events")
        wait(lambda: self.fake.deleted_at)
        self.tidy()

    def test_cancel_while_frames_are_stuck(self):
        self.interrupted("frames")
        self.tidy()

    def test_cancel_while_the_job_is_submitted(self):
        self.interrupted("create")
        self.fake.leaving.set()  # now the answer comes
        wait(lambda: self.fake.deleted_at)
        self.tidy()

    def test_cancel_while_an_upload_is_begun(self):
        self.interrupted("begin")
        self.fake.leaving.set()
        wait(lambda: self.fake.count == 1)
        self.tidy()

    def test_cancel_of_a_job_that_ends_slowly(self):
        self.fake.slow_end = 1.0
        self.interrupted("events")
        self.tidy()

    def test_a_failed_job_says_why_in_two_lines(self):
        self.fake.problem = {"message": "no face in the whole video", "hint": "choose another video", "exit_code": 4}
        with self.assertRaises(RuntimeError) as caught:
            self.run_node()
        self.assertIs(type(caught.exception), RuntimeError)
        self.assertEqual(str(caught.exception), "no face in the whole video\nchoose another video")
        self.assertIsNone(caught.exception.__cause__)
        self.assertTrue(caught.exception.__suppress_context__)
        self.tidy()

    def test_a_job_that_somebody_else_cancels(self):
        self.fake.stall = "events"
        t = threading.Thread(target=lambda: (self.fake.stalled.wait(), [(j.update(state="cancelled"), j["cancel"].set()) for j in self.fake.jobs.values()]))
        t.start()
        with self.assertRaisesRegex(RuntimeError, "cancelled on the server"):
            self.run_node()
        t.join()

    def test_versions(self):
        for health, want in (({"status": "ok", "version": "0.9"}, r"need API 1, but the server at http://127.*0\.9\) has none\nupdate the server"),
                             ({"status": "ok", "version": "3.0", "api": 2}, r"lipstream 3\.0\) has API 2\nupdate the nodes"),
                             ([], "is not a Lipstream server")):
            self.fake.health = health
            with self.assertRaisesRegex(RuntimeError, want):
                self.run_node()
            self.assertNotIn("POST /v1/uploads", self.fake.seen)

    def test_token(self):
        self.fake.token = "secret"
        with self.assertRaisesRegex(RuntimeError, "token is missing.*\nset LIPSTREAM_TOKEN_FILE"):
            self.run_node()
        with mock.patch.dict(os.environ, LIPSTREAM_TOKEN="secret"):
            self.run_node()
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("secret\n")
            f.flush()
            with mock.patch.dict(os.environ, LIPSTREAM_TOKEN_FILE=f.name):
                self.run_node(seed=9)
            for text in (b"AWS_SECRET=abc\nSECOND=def\n", b"\xff\xfe\x00", b"two words"):
                f.seek(0), f.truncate(), f.file.buffer.write(text), f.flush()
                with mock.patch.dict(os.environ, LIPSTREAM_TOKEN_FILE=f.name), self.assertRaises(RuntimeError) as caught:
                    self.run_node(seed=10)
                self.assertEqual(str(caught.exception), "LIPSTREAM_TOKEN_FILE does not contain a token\nuse one line of letters, digits and signs, without spaces")

    def test_servers_that_are_trusted(self):
        with mock.patch.dict(os.environ, LIPSTREAM_SERVER="gpu.example:8448"):
            for server, want in (("", True), ("http://gpu.example:8448/", True), ("http://[::1]:8448", True), ("localhost:1", True),
                                 ("http://evil.example:8448", False), ("http://127.0.0.1@evil.example", False), ("http://[::1", False), ("gpu.example:1", False), ("https://gpu.example:8448", False)):
                self.assertEqual(service.trusted(server), want, server)

    def test_no_server(self):
        for server, want in (("http://127.0.0.1:1", "no Lipstream server answers at http://127.0.0.1:1.*\nstart one there"), ("ftp://x", "is not the address"), ("http://x:y", "is not the address"),
                             ("http://a..b:8448", "is not the address"), ("http://[::1", "is not the address"), ("http://gpu local:1", "is not the address"), ("http://h/\u00fc", "is not the address"),
                             ("http://" + 64 * "x", "is not the address")):
            with self.assertRaisesRegex(RuntimeError, want):
                self.executor.run(prompt(server=server))

    def test_a_server_of_another_name(self):
        self.fake.refusal = (421, "this server is not called gpu.local", "start it with --allow-host gpu.local")
        with self.assertRaisesRegex(RuntimeError, "^this server is not called gpu.local\nstart it with --allow-host"):
            self.run_node()

    def test_messages_are_few(self):
        with mock.patch.object(Source, "images", torch.rand(100, 64, 64, 3)), mock.patch.object(Source, "audio", {"waveform": torch.rand(1, 1, 192000), "sample_rate": 48000}):
            self.run_node()
        values = [v for v, _ in host.progress]
        self.assertLessEqual(len(values), len(set(values)) + len(host.previews))

    def test_memory_is_flat(self):
        """Measures the memory of a separate process beyond its tensors of 2 x 315 MB."""
        with tempfile.TemporaryDirectory() as d:
            frames = np.lib.format.open_memmap(os.path.join(d, "in.npy"), "w+", np.uint8, (100, 512, 512, 3))
            for k in range(100):
                frames[k] = np.random.default_rng(k).integers(0, 256, frames.shape[1:], dtype=np.uint8)
            del frames
            shutil.copy(os.path.join(HERE, "..", "..", "testdata", "demo", "speech.wav"), d) if os.path.exists(os.path.join(HERE, "..", "..", "testdata")) else silence(os.path.join(d, "speech.wav"))
            with open(os.path.join(d, "w.json"), "w") as f:
                json.dump({"1": {"class_type": "LoadFrames", "inputs": {"path": "in.npy"}}, "2": {"class_type": "LoadAudio", "inputs": {"audio": "speech.wav"}},
                           "3": {"class_type": "LatentSyncNode", "inputs": {"images": ["1", 0], "audio": ["2", 0], "seed": 1, "lips_expression": 1.5, "inference_steps": 20}},
                           "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}}, f)
            out = subprocess.run([sys.executable, os.path.join(HERE, "drive.py"), "workflow", "--server", self.fake.url, "--workflow", os.path.join(d, "w.json"), "--input", d, "--out", d],
                                 capture_output=True, text=True)
        report = json.loads(out.stdout)
        self.assertTrue(report["ok"], report)
        self.assertEqual(report["frames"], 100)
        self.assertGreater(report["tensors"], 600_000_000)
        self.assertLess(report["overhead"], 64 << 20)


class RunTest(Case):
    def setUp(self):
        super().setUp()
        self.input, self.output = (os.path.join(base.name, n) for n in ("input", "output"))
        source = nodes._video(Source.images, package("media").rate(25.0))
        with open(os.path.join(self.input, "face.mkv"), "wb") as f:
            f.writelines(source.chunks(0, source.size))
        silence(os.path.join(self.input, "voice.wav"))
        self.addCleanup(lambda: [os.remove(os.path.join(self.output, n)) for n in os.listdir(self.output)])

    def prompt(self, **inputs):
        return {"1": {"class_type": "LipstreamRun", "inputs": {"video": "face.mkv", "audio": os.path.join(self.input, "voice.wav"), "output_name": "a/../b:c.mkv", "server": self.fake.url, **inputs}}}

    def test_from_file_to_file(self):
        self.fake.break_frames = [1000]
        out = self.executor.run(self.prompt())
        path = out["1"][0]
        self.assertEqual(path, os.path.join(self.output, "b_c_00001.mkv"))
        with open(path, "rb") as a, open(os.path.join(self.input, "face.mkv"), "rb") as b:
            self.assertEqual(a.read(), b.read())
        self.assertEqual(self.executor.ui["1"]["images"][0]["filename"], "b_c_00001.mkv")
        self.tidy()
        self.executor.run(self.prompt())
        self.assertEqual(self.executor.executed, [])  # cached
        os.utime(os.path.join(self.input, "voice.wav"), (1, 1))
        second = self.executor.run(self.prompt())["1"][0]  # a file has changed
        self.assertEqual(os.path.basename(second), "b_c_00002.mkv")
        self.assertEqual(sorted(os.listdir(self.output)), ["b_c_00001.mkv", "b_c_00002.mkv"])

    def test_two_voices(self):
        specs = []
        submit = client.Client.submit
        silence(os.path.join(self.input, "second.wav"))
        with mock.patch.object(client.Client, "submit", lambda c, spec: specs.append(dict(spec)) or submit(c, spec)):
            self.executor.run(self.prompt(audio_2="second.wav", face_2="2"))
        self.assertEqual([s["face"] for s in specs[0]["speakers"]], ["largest", "2"])
        self.tidy()
        with self.assertRaisesRegex(harness.Invalid, "'none.wav' is not a file"):
            self.executor.run(self.prompt(audio_2="none.wav"))

    def test_nothing_stays_after_a_failure(self):
        self.fake.problem = {"message": "broken"}
        with self.assertRaisesRegex(RuntimeError, "^broken$"):
            self.executor.run(self.prompt())
        self.assertEqual(os.listdir(self.output), [])
        self.fake.problem, self.fake.stall = None, "events"
        self.interrupt_when_stalled()
        with self.assertRaises(harness.InterruptProcessingException):
            self.executor.run(self.prompt())
        self.assertEqual(os.listdir(self.output), [])
        self.tidy()

    def test_files_that_are_missing(self):
        with self.assertRaisesRegex(harness.Invalid, "'nothing.mp4' is not a file"):
            self.executor.run(self.prompt(video="nothing.mp4"))

    def test_files_for_other_machines(self):
        """A workflow from somebody else cannot send this machine's files elsewhere."""
        with tempfile.NamedTemporaryFile(suffix=".mp4") as f:
            link = os.path.join(self.input, "link.mp4")
            os.symlink(f.name, link)
            self.addCleanup(os.remove, link)
            for path in (f.name, "link.mp4", os.path.join("..", "..", os.path.basename(f.name))):
                if os.path.isfile(hostmod.input_path(path)):
                    with self.assertRaisesRegex(RuntimeError, "is not in a folder of ComfyUI, and http://evil.example is another machine\nto send other files"):
                        self.executor.run(self.prompt(video=path, server="http://evil.example"))
        with mock.patch.object(service, "trusted", lambda server: False):
            self.executor.run(self.prompt())  # files in ComfyUI's folders are sent

    def test_linked_paths(self):
        """Linked paths are not known beforehand, so the files are always sent again."""
        changed = root.NODE_CLASS_MAPPINGS["LipstreamRun"].IS_CHANGED
        for video, audio in ((None, "voice.wav"), ("face.mkv", None)):
            self.assertNotEqual(changed(video, audio), changed(video, audio))
        self.assertEqual(changed("face.mkv", "voice.wav"), changed("face.mkv", "voice.wav", seed=3))

    def test_a_disk_that_is_full(self):
        """The result is removed from the server as usual, and no file is left here."""
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")), self.assertRaisesRegex(RuntimeError, "cannot be written to .*: No space left on device\ncheck that the disk has room"):
            self.executor.run(self.prompt())
        self.assertEqual(os.listdir(self.output), [])

    def test_a_folder_that_cannot_be_written(self):
        with mock.patch("folder_paths.get_output_directory", lambda: "/proc/nothing"), self.assertRaisesRegex(RuntimeError, "^/proc/nothing cannot be written: "):
            self.executor.run(self.prompt())

    def test_names(self):
        for name, want in (("x", ("x", ".mp4")), ("../../etc/passwd", ("passwd", ".mp4")), ("a\\b.webm", ("b", ".webm")), (" .. ", ("lipstream", ".mp4")), (100 * "\u97f3", (66 * "\u97f3", ".mp4")),
                           ("v1.5", ("v1.5", ".mp4")), ("Größe.MKV", ("Größe", ".mkv")), ("", ("lipstream", ".mp4")), ("a\nb|c*.mov", ("a_b_c_", ".mov"))):
            self.assertEqual(hostmod.safe_name(name), want)

    def test_memory_node(self):
        prompt = {"1": {"class_type": "Source", "inputs": {}}, "2": {"class_type": "LipstreamMemory", "inputs": {"anything": ["1", 0], "server": self.fake.url}}}
        for _ in range(2):  # never cached
            out = self.executor.run(prompt)["2"]
            self.assertEqual(out[0], "host: 1.50 of 8.00 GB, normal")
            self.assertIs(out[1], Source.images)
            self.assertIn("2", self.executor.executed)
            self.assertEqual(host.texts.pop(), ("2", out[0]))


class WorkflowTest(unittest.TestCase):
    """Workflows of the old wrapper load unchanged."""

    def widgets(self, cls):
        """Returns the widgets that the page makes for a node, in its order."""
        out = []
        for part in ("required", "optional"):
            for name, spec in cls.INPUT_TYPES().get(part, {}).items():
                if isinstance(spec[0], list) or spec[0] in ("INT", "FLOAT", "STRING", "BOOLEAN"):
                    out += [name, "control_after_generate"] if name in ("seed", "noise_seed") else [name]
        return out

    def test_old_workflows(self):
        with open(os.path.join(harness.PACKAGE, "example_workflows", "latentsync_wrapper.json")) as f:
            flow = json.load(f)
        by_type = {n["type"]: n for n in flow["nodes"]}
        got = {}
        for name in ("LatentSyncNode", "VideoLengthAdjuster"):
            cls, node = root.NODE_CLASS_MAPPINGS[name], by_type[name]
            got[name] = dict(zip(self.widgets(cls), node["widgets_values"]))
            self.assertEqual([(i["name"], i["type"]) for i in node["inputs"]], [("images", "IMAGE"), ("audio", "AUDIO")])
            self.assertEqual([(o["name"], o["type"]) for o in node["outputs"]], [("images", "IMAGE"), ("audio", "AUDIO")])
        self.assertEqual(got["LatentSyncNode"], {"seed": 1247, "control_after_generate": "randomize", "lips_expression": 1.5, "inference_steps": 20})
        self.assertEqual(got["VideoLengthAdjuster"], {"mode": "pingpong", "fps": 25, "silent_padding_sec": 0.5})
        ids = {n["id"]: n for n in flow["nodes"]}
        for ident, source, slot, target, into, kind in flow["links"]:
            self.assertEqual(ids[source]["outputs"][slot]["type"], kind)
            self.assertIn(ident, ids[source]["outputs"][slot]["links"])
            self.assertEqual((ids[target]["inputs"][into]["type"], ids[target]["inputs"][into]["link"]), (kind, ident))
        # A prompt for the old node, without the new inputs, runs as well.
        fake = Fake().start()
        self.addCleanup(fake.stop)
        with mock.patch.dict(os.environ, LIPSTREAM_SERVER=fake.url):
            out = harness.Executor({"Source": Source, "Sink": Sink, **root.NODE_CLASS_MAPPINGS}).run(prompt())
        self.assertTrue(torch.equal(out["2"][0], Source.images))

    def test_api_workflows(self):
        import drive

        with tempfile.TemporaryDirectory() as d, mock.patch("folder_paths.get_input_directory", lambda: d):
            for name in ("face.png", "face.mp4", "voice.wav"):
                open(os.path.join(d, name), "w").close()
            for name in ("lipstream.json", "lipstream_run.json"):
                with open(os.path.join(harness.PACKAGE, "api_workflows", name)) as f:
                    harness.Executor({**drive.NODES, **root.NODE_CLASS_MAPPINGS}).validate(json.load(f))

    def test_bad_values(self):
        executor = harness.Executor({"Source": Source, "Sink": Sink, **root.NODE_CLASS_MAPPINGS})
        for inputs, want in (({"lips_expression": 3.5}, "bigger_than_max"), ({"inference_steps": 0}, "smaller_than_min"), ({"engine": "x"}, "not_in_list"),
                             ({"memory_limit_gb": -1}, "smaller_than_min"), ({"images": ["1", 1]}, "return_type_mismatch")):
            with self.assertRaisesRegex(harness.Invalid, want):
                executor.validate(prompt(**inputs))


if __name__ == "__main__":
    unittest.main()
