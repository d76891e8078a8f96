"""Starting and ending the server."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import support
from fake import Fake
from support import package, wait

client, host, program, service = package("client"), package("host"), package("program"), package("service")
base = support.base.name
HERE = os.path.dirname(os.path.abspath(__file__))

SERVER = """#!%s
import sys, os, json, threading, time
args = sys.argv[1:]
if args[0] != "serve":
    print("{}" if args[0] == "doctor" else "[]")
    sys.exit()
open(os.environ["SEEN"], "a").write(json.dumps(args) + "\\n")
mode = os.environ.get("MODE", "")
if mode == "taken" and len(open(os.environ["SEEN"]).readlines()) < 4:
    sys.exit(6)
if mode == "broken":
    sys.exit("lipstream: listen: address already in use")
sys.path.insert(0, %r)
from fake import Fake
fake = Fake(int(args[args.index("--listen") + 1].rpartition(":")[2]))
for ident, name in json.loads(os.environ.get("JOBS", "{}")).items():
    fake.jobs[ident] = {"id": ident, "state": "running", "spec": {"name": name}, "cancel": threading.Event()}
print("started by", os.environ["LIPSTREAM_PYTHON"], "with", os.environ["LIPSTREAM_MODELS_PATH"], file=sys.stderr, flush=True)
fake.start()
print("ready", file=sys.stderr, flush=True)
sys.stdin.read()
while mode == "deaf":
    time.sleep(1)
print(json.dumps({k: j["state"] for k, j in fake.jobs.items()}), file=sys.stderr, flush=True)
"""


class ServiceTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.addCleanup(service.stop)
        path = os.path.join(self.dir.name, "lipstream")
        with open(path, "w") as f:
            f.write(SERVER % (sys.executable, HERE))
        os.chmod(path, 0o755)
        import socket

        # A bound socket that does not listen keeps the system from giving the port to others.
        reserved = socket.socket()
        self.addCleanup(reserved.close)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{reserved.getsockname()[1]}"
        self.seen = os.path.join(self.dir.name, "seen")
        env = {k: v for k, v in os.environ.items() if not k.startswith("LIPSTREAM_")}
        env.update(LIPSTREAM_BINARY=path, SEEN=self.seen, XDG_CACHE_HOME=os.path.join(self.dir.name, "cache"))
        for p in (mock.patch.object(service, "LISTEN", listen), mock.patch.dict(os.environ, env, clear=True)):
            p.start()
            self.addCleanup(p.stop)

    def test_starts_one_and_ends_it(self):
        c = service.connect("")
        self.assertEqual(c.negotiate(), "fake")
        child = service._child
        self.assertNotEqual(os.getsid(child.pid), os.getsid(0))
        service.connect("")
        with open(self.seen) as f:
            self.assertEqual([json.loads(x) for x in f], [["serve", "--listen", service.LISTEN, "--max-upload", "200GB", "--max-stored", "400GB", "--until-eof", "--grace", "3s"]])
        with open(service.log_path()) as f:  # PyTorch's libraries and the checkpoints are found by it
            self.assertIn(f"started by {sys.executable} with {os.pathsep.join(host.model_folders())}", f.read())
        child.kill()  # connect starts it again
        child.wait()
        service.connect("")
        child = service._child
        service.stop()
        self.assertIsNotNone(child.poll())

    def test_model_folders(self):
        """ComfyUI has put the folders of extra_model_paths.yaml into folder_names_and_paths."""
        import folder_paths

        extra = os.path.join(self.dir.name, "my vaes")
        with mock.patch.dict(folder_paths.folder_names_and_paths, vae=([os.path.join(base, "models", "vae"), extra], set())):
            folders = host.model_folders()
            with mock.patch.dict(os.environ, LIPSTREAM_MODELS_PATH="/mine"):
                self.assertEqual(service._environment()["LIPSTREAM_MODELS_PATH"].split(os.pathsep), ["/mine", *folders])
        self.assertEqual(folders, [base, os.path.join(base, "models"), os.path.join(base, "custom_nodes"), os.path.join(base, "models", "checkpoints"),
                                   os.path.join(base, "models", "vae"), extra, os.path.join(base, "models", "vae_approx")])

    def test_waits_for_one_that_is_ending(self):
        """After a quick restart of ComfyUI, the previous server may still be ending its jobs."""
        ending = Fake(int(service.LISTEN.rpartition(":")[2]))
        ending.ending = True
        ending.start()
        threading.Timer(1.0, ending.stop).start()
        service.connect("").negotiate()
        self.assertIsNone(service._child.poll())

    def test_installs_nothing_for_a_server_that_is_starting(self):
        starting = Fake(int(service.LISTEN.rpartition(":")[2]))
        self.addCleanup(starting.stop)
        starting.ending = True  # until it has been asked some times
        starting.start()

        def ready():
            wait(lambda: starting.seen.count("GET /readyz") > 2)
            starting.ending = False

        threading.Thread(target=ready).start()
        with mock.patch.object(program, "find") as find, mock.patch.object(program, "prepare") as prepare:
            service.connect("").negotiate()
        find.assert_not_called()
        prepare.assert_not_called()
        self.assertIsNone(service._child)

    def test_time_of_the_installation(self):
        """It does not count towards the time that the server may take."""
        clock = support.Clock()

        def prepare(*_):
            clock.now += 2 * service.READY

        with mock.patch.object(service, "time", clock), mock.patch.object(program, "prepare", prepare):
            service.connect("").negotiate()

    def test_waits_for_a_folder(self):
        """Another server may have closed its port already, but not yet released its folder."""
        with mock.patch.dict(os.environ, MODE="taken"):
            service.connect("").negotiate()
        with open(self.seen) as f:
            self.assertEqual(len(f.readlines()), 4)

    def test_jobs_of_others(self):
        """A server that is started again keeps the jobs of other ComfyUIs."""
        c = service.connect("")
        with mock.patch.dict(os.environ, JOBS='{"j1": "comfyui-0123abcd.mkv"}'):
            service._child.kill()
            service._child.wait()
            c.again(lambda: c.json("GET", "/v1/devices")) # cancels jobs of its own before it returns
        self.assertEqual([j["id"] for j in c.json("GET", "/v1/jobs?state=running")["jobs"]], ["j1"])

    def test_another_program_on_the_port(self):
        other = Fake(int(service.LISTEN.rpartition(":")[2]))
        other.health = {"hello": 1}
        self.addCleanup(other.start().stop)
        with self.assertRaisesRegex(client.Failure, "is not a Lipstream server\nend it, or start lipstream serve with another --listen and set LIPSTREAM_SERVER"):
            service.connect("")

    def test_starts_again_what_was_killed(self):
        c = service.connect("")
        service._child.kill()
        service._child.wait()
        c.again(lambda: c.json("GET", "/v1/devices"))
        with open(self.seen) as f:
            self.assertEqual(len(f.readlines()), 2)

    def test_kills_what_does_not_end(self):
        with mock.patch.dict(os.environ, MODE="deaf"), mock.patch.object(service, "GRACE", 0.5):
            service.connect("")
            child = service._child
            service.stop()
        self.assertEqual(child.returncode, -9)

    def test_says_why_it_does_not_start(self):
        with mock.patch.dict(os.environ, MODE="broken"):
            with self.assertRaises(client.Failure) as caught:
                service.connect("")
        self.assertRegex(str(caught.exception), r"^lipstream serve ended immediately: lipstream: listen: address already in use\nits log is .*comfyui-serve\.log$")

    def test_starts_nothing_elsewhere(self):
        with self.assertRaises(client.Failure):
            service.connect("http://127.0.0.1:1")
        with mock.patch.dict(os.environ, LIPSTREAM_SERVER="http://127.0.0.1:1"), self.assertRaises(client.Failure):
            service.connect("")
        self.assertFalse(os.path.exists(self.seen))

    def python(self, code):
        """Runs another Python that starts a server, and returns the server's process id."""
        code = (f"import os, signal, sys; sys.path.insert(0, {HERE!r}); from support import package\n"
                f"s = package('service'); s.LISTEN = {service.LISTEN!r}; c = s.connect(''); print(s._child.pid)\n" + code)
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        return int(out.stdout)

    def last_line(self):
        with open(service.log_path()) as f:
            return f.read().split("\n")[-2]

    def test_ends_with_python(self):
        """The server ends, and the job that this Python was waiting for is cancelled."""
        with mock.patch.dict(os.environ, JOBS='{"j1": "mine.mkv", "j2": "other.mkv"}'):
            pid = self.python("working = s.working(c); working.__enter__(); c.job_id = 'j1'")
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)
        self.assertEqual(json.loads(self.last_line()), {"j2": "running"})

    def test_ends_with_a_killed_python(self):
        pid = self.python("os.kill(os.getpid(), signal.SIGKILL)")

        def gone():
            try:
                with open(f"/proc/{pid}/stat") as f:
                    return f.read().rpartition(")")[2].split()[0] == "Z"  # a zombie: its parent is gone as well
            except FileNotFoundError:
                return True

        wait(gone)

    def test_jobs_of_a_killed_python(self):
        """The jobs are still in the queue of the next server, which removes them."""
        with mock.patch.dict(os.environ, JOBS='{"j1": "comfyui-0123abcd.mkv", "j2": "comfyui.mkv", "j3": "comfyui-ffffffff.webm"}'):
            c = service.connect("")
        wait(lambda: [j["id"] for s in ("running", "cancelled") for j in c.json("GET", "/v1/jobs?state=" + s)["jobs"]] == ["j2"])
        service.stop()
        self.assertEqual(json.loads(self.last_line()), {"j2": "running"})

    def test_uploads_of_a_job(self):
        """All inputs of a job are removed with it."""
        one = {name: {"upload": name} for name in ("video", "audio", "soundtrack", "mask")}
        self.assertEqual(service._uploads({**one, "name": "x"}), ["video", "audio", "soundtrack", "mask"])
        two = {"video": {"upload": "v"}, "audio": {}, "speakers": [{"face": "left", "audio": {"upload": "l"}}, {"face": "right", "audio": {"upload": "r"}}]}
        self.assertEqual(service._uploads(two), ["v", "l", "r"])


if __name__ == "__main__":
    unittest.main()
