"""Finding, downloading and preparing the program lipstream."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import threading
import unittest
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from support import package

client, program = package("client"), package("program")

# Prints the answers in the environment, and notes what it was asked to install.
PROGRAM = """#!%s
import json, os, sys
args = sys.argv[1:]
if args[:2] == ["runtime", "install"]:
    open(os.environ["SEEN"], "a").write(args[2] + "\\n")
    print("\\x1b[1mdownloading " + args[2] + "\\x1b[0m", file=sys.stderr)
    if args[2] in os.environ.get("BROKEN", "").split():
        sys.exit("lipstream: download %%s: no route to host\\nhint: run: lipstream runtime install %%s --from FILE" %% (args[2], args[2]))
elif args == ["doctor", "--json"]:
    print(json.dumps({"checks": json.loads(os.environ["CHECKS"])}))
    sys.exit(5)  # something is missing
elif args == ["runtime", "list", "--json"]:
    print(os.environ.get("RUNTIMES", '[{"name": "openvino"}, {"name": "onnxruntime"}, {"name": "cuda13"}]'))
"""


def check(name, status="ok", fix="", detail=""):
    return {"name": name, "status": status, "detail": detail or f"{name} is {status}", "fix": fix}


FFMPEG, OPENVINO, ONNXRUNTIME = check("ffmpeg"), check("openvino"), check("onnxruntime")
NO_FFMPEG = check("ffmpeg", "missing", "run: lipstream runtime install ffmpeg, or: sudo apt-get install ffmpeg")
NO_OPENVINO = check("openvino", "missing", "run: lipstream runtime install openvino")
NO_ONNXRUNTIME = check("onnxruntime", "missing", "run: lipstream runtime install onnxruntime")
NVIDIA = check("gpu", detail="NVIDIA GeForce RTX 4090, 23.0 GiB free of 24.0 GiB, driver 580.65")


class Release(BaseHTTPRequestHandler):
    """Serves an archive. `cuts` has, for each request in turn, after how many bytes it breaks off."""

    content, cuts, asked = b"", [], []

    def log_message(self, *_):
        pass

    def do_GET(self):
        type(self).asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:type(self).cuts.pop(0)] if self.cuts else self.content)


class ProgramTest(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        # The portable version of ComfyUI, in a folder with a space and a letter that is not ASCII.
        self.root = os.path.join(temp.name, "Künstler PC", "ComfyUI_windows_portable")
        self.nodes = os.path.join(self.root, "ComfyUI", "custom_nodes", "comfyui-lipstream")
        shutil.copytree(program.HERE, self.nodes, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        self.seen = os.path.join(temp.name, "seen")
        env = {k: v for k, v in os.environ.items() if not k.startswith("LIPSTREAM_")}
        env.update(PATH="/nowhere", SEEN=self.seen, XDG_CACHE_HOME=os.path.join(temp.name, "my cache"))
        for p in (mock.patch.dict(os.environ, env, clear=True), mock.patch.object(program, "HERE", self.nodes)):
            p.start()
            self.addCleanup(p.stop)

    def write(self, path, text=PROGRAM % sys.executable):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o755)
        return path

    def test_find(self):
        with self.assertRaisesRegex(client.Failure, "is not installed\ninstall it, or set LIPSTREAM_BINARY"):
            program.find()
        on_path = self.write(os.path.join(self.root, "bin", "lipstream"))
        os.environ["PATH"] = os.path.dirname(on_path)
        self.assertEqual(program.find(), on_path)
        beside = self.write(os.path.join(self.nodes, program.NAME))
        self.assertEqual(program.find(), beside)
        noted = self.write(os.path.join(self.root, "installed", "lipstream"))
        self.write(os.path.join(self.nodes, "binary.txt"), noted + "\n")
        self.assertEqual(program.find(), noted)
        os.remove(noted)
        self.assertEqual(program.find(), beside)
        os.environ["LIPSTREAM_BINARY"] = on_path
        self.assertEqual(program.find(), on_path)
        os.environ["LIPSTREAM_BINARY"] = self.root + "/no"
        with self.assertRaisesRegex(client.Failure, "LIPSTREAM_BINARY names .*/no, which does not exist"):
            program.find()

    def test_not_from_the_current_folder(self):
        """Windows finds programs in the current folder, which may be anybody's."""
        with mock.patch.object(shutil, "which", return_value=os.path.join(".", "lipstream.EXE")), self.assertRaises(client.Failure):
            program.find()

    def test_folder_that_cannot_be_made(self):
        """The shared temporary folder may have a program from anybody."""
        code = (f"import os, stat, sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r}); from support import package\n"
                "folder = package('program').folder; print(folder()); print(folder()); print(oct(stat.S_IMODE(os.stat(folder()).st_mode)))\n"
                "open(os.path.join(folder(), 'x'), 'w')")
        env = {**os.environ, "XDG_CACHE_HOME": self.write(os.path.join(self.root, "a file"))}
        first, second, mode = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, text=True, check=True).stdout.split("\n")[:3]
        self.assertEqual((second, mode), (first, "0o700"))
        self.assertEqual(os.path.dirname(first), tempfile.gettempdir())
        self.assertFalse(os.path.exists(first))

    # Downloads

    def serve(self, name, content):
        """Serves an archive, and writes the package's binary.json for it."""
        class Handler(Release):
            cuts, asked = [], []

        Handler.content = content
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        folder = name.split(".")[0]
        packed = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "program": f"{folder}/{program.NAME}"}
        self.manifest(f"http://127.0.0.1:{server.server_port}/v1/", packed)
        return Handler, packed

    def manifest(self, url, packed):
        platforms = {f"{s}/{a}": packed for s in ("linux", "darwin", "windows") for a in ("amd64", "arm64")}
        self.write(os.path.join(self.nodes, "binary.json"), json.dumps({"url": url, "platforms": platforms}))

    def tar(self):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as t:
            for name, text in (("LICENSE", b"x" * 3000), (program.NAME, (PROGRAM % sys.executable).encode())):
                info = tarfile.TarInfo("lipstream-linux-amd64/" + name)
                info.size = len(text)
                t.addfile(info, io.BytesIO(text))
        return "lipstream-linux-amd64.tar.gz", content.getvalue()

    def downloads(self):
        """Returns the files below Lipstream's cache folder."""
        return [os.path.join(d, f) for d, _, files in os.walk(program.folder()) for f in files]

    def test_fetch(self):
        handler, packed = self.serve(*self.tar())
        lines = []
        path = program.find(lines.append)
        self.assertEqual(self.downloads(), [path])
        self.assertIn(packed["sha256"][:16], path)
        os.environ["CHECKS"] = "[]"
        self.assertEqual(subprocess.run([path, "doctor", "--json"], stdout=subprocess.PIPE).stdout, b'{"checks": []}\n')
        self.assertEqual((lines[0], lines[-1]), ("downloading lipstream", "downloading lipstream: 100 %"))
        self.assertEqual(program.find(), path)
        self.assertEqual(handler.asked, ["/v1/lipstream-linux-amd64.tar.gz"])

    def test_fetch_removes_old_releases(self):
        self.serve(*self.tar())
        first = program.find()
        name, content = self.tar()
        handler, _ = self.serve(name, content + b"\0")
        handler.cuts += [0] * program.TRIES
        with self.assertRaises(client.Failure):
            program.find()
        self.assertEqual(self.downloads(), [first])
        second = program.find()
        self.assertNotEqual(first, second)
        self.assertEqual(sorted(self.downloads()), sorted([first, second]))  # another ComfyUI may use the first
        old = time.time() - program.UNUSED - 1
        os.utime(os.path.dirname(first), (old, old))
        os.remove(second)
        self.assertEqual(program.find(), second)
        self.assertEqual(self.downloads(), [second])
        self.assertEqual(os.listdir(os.path.dirname(os.path.dirname(second))), [os.path.basename(os.path.dirname(second))])

    def test_fetch_for_windows(self):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as z:
            z.writestr(f"lipstream-windows-amd64/{program.NAME}", "MZ")
        self.serve("lipstream-windows-amd64.zip", content.getvalue())
        with mock.patch.object(sys, "platform", "win32"), mock.patch("platform.machine", return_value="AMD64"), mock.patch.dict(os.environ, LOCALAPPDATA=self.root):
            path = program.find()
        self.assertTrue(path.startswith(os.path.join(self.root, "lipstream", "comfyui")))
        with open(path) as f:
            self.assertEqual(f.read(), "MZ")

    def test_fetch_again_after_a_broken_connection(self):
        handler, _ = self.serve(*self.tar())
        handler.cuts += [0, 100]
        path = program.find()
        self.assertEqual((self.downloads(), len(handler.asked)), ([path], 3))

    def test_fetch_refuses_another_file(self):
        handler, packed = self.serve(*self.tar())
        handler.content = handler.content[:-1] + b"?"
        with self.assertRaisesRegex(client.Failure, "is not the file that these nodes need: its SHA-256 is .*, not " + packed["sha256"]):
            program.find()
        handler.content += b"longer"
        with self.assertRaisesRegex(client.Failure, "is not the file that these nodes need"):
            program.find()
        self.assertEqual(self.downloads(), [])

    def test_fetch_without_a_connection(self):
        name, content = self.tar()
        self.manifest("http://127.0.0.1:1/", {"name": name, "size": len(content), "sha256": "0" * 64, "program": "p"})
        with self.assertRaises(client.Failure) as caught:
            program.find()
        self.assertRegex(str(caught.exception), r"^http://127.0.0.1:1/lipstream-linux-amd64.tar.gz cannot be downloaded: .*refused.*\n"
                         r"check the connection and the disk, .* download http://127.0.0.1:1/.* elsewhere, unpack it, and set LIPSTREAM_BINARY to the path of " + program.NAME)
        self.assertEqual(self.downloads(), [])

    def test_fetch_for_an_unknown_platform(self):
        self.serve(*self.tar())
        with mock.patch("platform.machine", return_value="riscv64"), self.assertRaisesRegex(client.Failure, "no program for .*/riscv64\nset LIPSTREAM_SERVER"):
            program.find()

    def test_install_script(self):
        """ComfyUI-Manager runs it with ComfyUI's Python, without ComfyUI in the path."""
        self.serve(*self.tar())

        def run():
            done = subprocess.run([sys.executable, "-s", "install.py"], cwd=self.nodes, stdout=subprocess.PIPE, text=True, check=True)
            return done.stdout.splitlines()[-1]

        self.assertEqual(run(), "lipstream: " + program.find())
        self.manifest("http://127.0.0.1:1/", {"name": "x.zip", "size": 1, "sha256": "0" * 64, "program": "p"})
        self.assertEqual(run(), "The nodes will try again when they first need it.")

    # Runtimes and ffmpeg

    def prepare(self, *checks, **more):
        """Returns what is installed, and the lines on the node."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.seen)
        lines, path = [], os.path.join(self.root, "lipstream")
        if not os.path.isfile(path):
            self.write(path)
        program.prepare(path, {**os.environ, "CHECKS": json.dumps(checks), **more}, lines.append)
        return self.installed(), lines

    def installed(self):
        try:
            with open(self.seen) as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def forget(self):
        os.remove(os.path.join(program.folder(), "comfyui-prepared.json"))

    def test_prepare(self):
        self.assertEqual(self.prepare(NO_FFMPEG, NO_OPENVINO, NO_ONNXRUNTIME), (["ffmpeg", "openvino"], [
            "checking this machine", "installing ffmpeg", "downloading ffmpeg", "installing openvino", "downloading openvino"]))
        # It asks again only after an update.
        self.assertEqual(self.prepare(NO_FFMPEG), ([], []))
        os.utime(os.path.join(self.root, "lipstream"), ns=(1, 1))
        self.assertEqual(self.prepare(FFMPEG, NO_OPENVINO, ONNXRUNTIME), ([], ["checking this machine"]))

    def test_prepare_for_nvidia(self):
        self.assertEqual(self.prepare(FFMPEG, OPENVINO, NVIDIA)[0], ["cuda"])
        self.forget()
        self.assertEqual(self.prepare(FFMPEG, NO_OPENVINO, NO_ONNXRUNTIME, NVIDIA)[0], ["cuda"])
        self.forget()
        self.assertEqual(self.prepare(FFMPEG, ONNXRUNTIME, NVIDIA, RUNTIMES='[{"name": "onnxruntime"}, {"name": "cuda12", "path": "x"}]')[0], [])
        self.forget()
        # The CPU's runtime takes the place of one that cannot be installed, which is tried again the next time.
        with self.assertLogs("lipstream", "WARNING") as logged:
            self.assertEqual(self.prepare(FFMPEG, NO_OPENVINO, NVIDIA, BROKEN="cuda")[0], ["cuda", "openvino"])
        self.assertIn("cuda could not be installed: lipstream: download cuda: no route to host", logged.output[0])
        self.forget()
        with self.assertLogs("lipstream", "WARNING"):
            self.assertEqual(self.prepare(FFMPEG, OPENVINO, NVIDIA, BROKEN="cuda")[0], ["cuda"])
        self.assertEqual(self.prepare(FFMPEG, OPENVINO, NVIDIA)[0], ["cuda"])

    def test_prepare_fails(self):
        with self.assertRaises(client.Failure) as caught:
            self.prepare(FFMPEG, NO_OPENVINO, BROKEN="openvino")
        self.assertEqual(str(caught.exception), "openvino could not be installed: lipstream: download openvino: no route to host\n"
                         "run: lipstream runtime install openvino --from FILE")
        with self.assertRaisesRegex(client.Failure, "^ffmpeg could not be installed"):
            self.prepare(NO_FFMPEG, BROKEN="ffmpeg")
        with self.assertRaisesRegex(client.Failure, "^ffmpeg is missing\ninstall it: apt-get install ffmpeg"):
            self.prepare(check("ffmpeg", "missing", "install it: apt-get install ffmpeg"))
        with self.assertRaisesRegex(client.Failure, "^lipstream doctor failed: KeyError: 'CHECKS'\ncheck that"):
            program.prepare(os.path.join(self.root, "lipstream"), dict(os.environ))


if __name__ == "__main__":
    unittest.main()
