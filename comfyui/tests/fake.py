"""A server with the part of the API that the nodes use.

Its jobs return the uploaded video (ffmpeg reads it). On request it does what the real
server does not: it breaks connections, falls silent, or has another version.
`python3 fake.py` prints its address and serves until its input ends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional


class Fake(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.dir = tempfile.TemporaryDirectory()
        self.health: Any = {"status": "ok", "version": "fake", "api": 1}
        self.token = ""
        self.devices = ["cpu"]
        self.engines = ["preview"]
        self.settings: Optional[List[Dict[str, Any]]] = None  # the answer of /v1/options; None: the route does not exist
        self.break_after: List[int] = []  # for each PATCH in turn, after how many bytes its connection breaks
        self.break_frames: List[int] = []  # the same for /frames
        self.stall = ""  # "begin", "upload", "create", "events" or "frames": where to fall silent
        self.slow_end = 0.0  # seconds from cancelling a job to its end
        self.refusal: Any = None  # the error of /healthz: status, detail and hint
        self.ending = False  # the server takes no more jobs
        self.steps = 4  # number of progress events, one every 0.05 s
        self.says: List[Dict[str, Any]] = []  # events before the progress
        self.problem: Optional[Dict[str, Any]] = None  # the problem with which jobs fail
        self.lock = threading.Lock()
        self.count = 0
        self.uploads: Dict[str, Dict[str, Any]] = {}
        self.jobs: Dict[str, Dict[str, Any]] = {}
        self.seen: List[str] = []  # requests
        self.deleted_at = 0.0
        self.leaving = threading.Event()
        self.stalled = threading.Event()  # set when the server has fallen silent

    def new(self, kind: str) -> str:
        with self.lock:
            self.count += 1
            return f"{kind}{self.count}"

    def handle_error(self, request: Any, address: Any) -> None:
        pass

    def start(self) -> "Fake":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.leaving.set()
        self.shutdown()
        self.server_close()
        self.dir.cleanup()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, value: Any = None, headers: Optional[Dict[str, str]] = None) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, detail: str, hint: str = "") -> None:
        self.answer(status, {"status": status, "detail": detail, "hint": hint})

    def silent(self, where: str) -> None:
        if self.server.stall == where:
            self.server.stalled.set()
            self.server.leaving.wait()

    def route(self) -> None:
        s = self.server
        path, _, query = self.path.partition("?")
        with s.lock:
            s.seen.append(f"{self.command} {path}")
        if path == "/healthz":
            return self.refuse(*s.refusal) if s.refusal else self.answer(200, s.health)
        if path == "/readyz":
            return self.refuse(503, "the server is ending") if s.ending else self.answer(200, {"status": "ready"})
        if s.token and self.headers.get("Authorization") != "Bearer " + s.token:
            return self.refuse(401, "the token is missing or wrong")
        if path == "/v1/devices":
            return self.answer(200, {"workers": [{"engines": s.engines, "devices": [{"name": d} for d in s.devices]}]})
        if path == "/v1/options" and s.settings is not None:
            return self.answer(200, {"settings": s.settings})
        if path == "/v1/memory":
            return self.answer(200, {"history": [{"watched": [{"name": "host", "used": 1.5e9, "total": 8e9, "level": "normal"}]}]})
        m = re.fullmatch(r"/v1/(uploads|jobs)(?:/(\w+))?(?:/(\w+))?", path)
        if not m:
            return self.refuse(404, "no such route")
        kind, ident, what = m.groups()
        name = f"{self.command.lower()}_{kind}" + (f"_{what}" if what else "")
        table = s.uploads if kind == "uploads" else s.jobs
        if ident and ident not in table:
            return self.refuse(404, f"there is no {kind[:-1]} {ident}")
        getattr(self, name)(table.get(ident), query)

    do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = route

    def post_uploads(self, _: Any, __: str) -> None:
        s = self.server
        self.silent("begin")
        ident = s.new("u")
        s.uploads[ident] = {"size": int(self.headers["Upload-Length"]), "path": os.path.join(s.dir.name, ident), "offset": 0}
        open(s.uploads[ident]["path"], "wb").close()
        self.answer(201, None, {"Location": "/v1/uploads/" + ident})

    def head_uploads(self, u: Dict[str, Any], _: str) -> None:
        self.answer(200, None, {"Upload-Offset": str(u["offset"]), "Upload-Length": str(u["size"])})

    def patch_uploads(self, u: Dict[str, Any], _: str) -> None:
        s = self.server
        if int(self.headers["Upload-Offset"]) != u["offset"]:
            self.close_connection = True
            return self.refuse(409, "wrong offset")
        left = int(self.headers["Content-Length"])
        limit = s.break_after.pop(0) if s.break_after else None
        with open(u["path"], "ab") as f:
            while left:
                n = min(left, 1 << 16, limit if limit is not None else left)
                if n == 0:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                data = self.rfile.read(n)
                if not data:
                    return
                f.write(data)
                f.flush()
                u["offset"] += len(data)
                left -= len(data)
                if limit is not None:
                    limit -= len(data)
                self.silent("upload")
        self.answer(204, None, {"Upload-Offset": str(u["offset"])})

    def delete_uploads(self, u: Dict[str, Any], _: str) -> None:
        used = [j["spec"][k]["upload"] for j in self.server.jobs.values() if j["state"] == "running" for k in ("video", "audio") if k in j["spec"]]
        if any(self.server.uploads[i] is u for i in used):
            return self.refuse(409, "a job that has not ended uses this upload")
        os.remove(u["path"])
        self.server.uploads = {k: v for k, v in self.server.uploads.items() if v is not u}
        self.answer(204)

    def post_jobs(self, _: Any, __: str) -> None:
        s = self.server
        spec = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.silent("create")
        ident = s.new("j")
        s.jobs[ident] = {"id": ident, "state": "running", "spec": spec, "cancel": threading.Event(),
                         "path": s.uploads[spec["video"]["upload"]]["path"], "audio_size": s.uploads[(spec.get("audio") or spec["speakers"][0]["audio"])["upload"]]["size"]}
        self.answer(201, self.view(s.jobs[ident]))

    def view(self, j: Dict[str, Any]) -> Dict[str, Any]:
        return {k: v for k, v in j.items() if k in ("id", "state", "spec", "problem", "result")}

    def get_jobs(self, j: Optional[Dict[str, Any]], query: str) -> None:
        if j is None:
            state = query.partition("state=")[2]
            return self.answer(200, {"jobs": [self.view(x) for x in self.server.jobs.values() if x["state"] == state]})
        self.answer(200, self.view(j))

    def delete_jobs(self, j: Dict[str, Any], _: str) -> None:
        if j["state"] == "running":
            if not j["cancel"].is_set():
                self.server.deleted_at = time.monotonic()
                j["cancel"].set()
                threading.Timer(self.server.slow_end, lambda: j.update(state="cancelled")).start() if self.server.slow_end else j.update(state="cancelled")
            return self.answer(202, self.view(j))
        del self.server.jobs[j["id"]]
        self.answer(204)

    def get_jobs_events(self, j: Dict[str, Any], _: str) -> None:
        s = self.server
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        last = int(self.headers.get("Last-Event-ID") or 0)
        for event in s.says if last == 0 else []:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        for n in range(last + 1, s.steps + 1):
            if s.stall == "events" and n > 2:
                s.stalled.set()
                j["cancel"].wait()
                return
            event = {"type": "progress", "phase": "frames", "frame": n, "frames": s.steps, "task": 0,
                     "step": 7, "steps": 20, "eta_s": 61.2, "memory_now": 3_200_000_000}
            self.wfile.write(f": still here\n\nid: {n}\nevent: progress\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.05)
        if s.problem:
            j.update(state="failed", problem=s.problem)
        elif j["state"] == "running":
            j.update(state="done", result={"size": os.path.getsize(j["path"]), "frames": 24, "no_face": 2, "elapsed": 3.2,
                                           "engine": "preview", "memory_peak": 400_000_000})
        self.wfile.write(b'id: 99\nevent: done\ndata: {"type":"done"}\n\n')

    def get_jobs_preview(self, j: Dict[str, Any], _: str) -> None:
        import io

        from PIL import Image

        out = io.BytesIO()
        Image.new("RGB", (640, 480), (200, 10, 10)).save(out, "JPEG")
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(out.getvalue())))
        self.end_headers()
        self.wfile.write(out.getvalue())

    def get_jobs_result(self, j: Dict[str, Any], _: str) -> None:
        with open(j["path"], "rb") as f:
            data = f.read()
        at = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if at else 200)
        self.send_header("Content-Length", str(len(data) - at))
        self.end_headers()
        limit = self.server.break_frames.pop(0) if self.server.break_frames else None
        self.wfile.write(data[at:] if limit is None else data[at:at + limit])
        if limit is not None:
            self.close_connection = True

    def get_jobs_frames(self, j: Dict[str, Any], query: str) -> None:
        s = self.server
        probe = json.loads(subprocess.run(
            ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=width,height,nb_read_packets,r_frame_rate", "-of", "json", j["path"]],
            check=True, capture_output=True).stdout)["streams"][0]
        unit = probe["width"] * probe["height"] * 3
        first = int(query.partition("first=")[2] or 0)
        self.send_response(200)
        for k, v in (("Width", probe["width"]), ("Height", probe["height"]), ("Frames", probe["nb_read_packets"]), ("Fps", probe["r_frame_rate"])):
            self.send_header("Lipstream-" + k, str(v))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.silent("frames")
        limit = s.break_frames.pop(0) if s.break_frames else None
        with subprocess.Popen(["ffmpeg", "-v", "error", "-i", j["path"], "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
            skip = first * unit
            while True:
                data = p.stdout.read(min(skip or 1 << 18, 1 << 18))
                if skip:
                    skip -= len(data)
                    continue
                if limit is not None:
                    data, limit = data[:limit], limit - len(data[:limit])
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data or limit != 0 else b"")
                if limit == 0:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    p.kill()
                    return
                if not data:
                    return


if __name__ == "__main__":
    fake = Fake().start()
    print(fake.url, flush=True)
    sys.stdin.read()
    fake.stop()
