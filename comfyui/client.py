"""HTTP client of `lipstream serve`. It imports neither torch nor ComfyUI.

All blocking calls are meant for a thread of their own: `host.supervise` runs them in
one, and `Client.abort` ends them from another thread.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import re
import socket
import ssl
import threading
import time
import urllib.parse
import uuid
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple

VERSION = "0.1.0"  # of this package; pyproject.toml says the same
API = 1  # the version of the server's API that this package needs

PIECE = 16 << 20  # bytes of one PATCH: at most so many are sent again after a broken connection
BLOCK = 1 << 20  # bytes in memory at a time
PATIENCE = 60.0  # seconds to wait for a server that does not answer
FUTILE = 6  # how many answers in a row may break off without progress
TIDY = 30.0  # seconds to try to remove a job and its uploads
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ENDED = ("done", "failed", "cancelled")
TUS = {"Tus-Resumable": "1.0.0"}


class Failure(Exception):
    """An error for the user: a message, and a hint that says what to do."""

    def __init__(self, message: str, hint: str = "", status: int = 0, problem: bool = False):
        super().__init__(message)
        self.message, self.hint, self.status = message, hint, status
        self.problem = problem  # the message comes from a Lipstream server, or explains why it was not asked

    def __str__(self) -> str:
        return self.message + ("\n" + self.hint if self.hint else "")


class Lost(Failure):
    """Raised when a connection cannot be made or breaks. Trying again may help."""


class Source:
    """A file to upload. It has `size` bytes, and can produce any range of them repeatedly."""

    size: int

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes [start, end) in pieces of about BLOCK."""
        raise NotImplementedError


class FileSource(Source):
    """A file on disk."""

    def __init__(self, path: str):
        try:
            self._file: BinaryIO = open(path, "rb")
        except OSError as e:
            raise Failure(f"{path} cannot be read: {e.strerror}") from None
        self.size = self._file.seek(0, 2)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        at = start
        while at < end:
            try:
                self._file.seek(at)
                data = self._file.read(min(BLOCK, end - at))
            except OSError as e:
                raise Failure(f"{self._file.name} cannot be read: {e.strerror}") from None
            if not data:
                raise Failure(f"{self._file.name} became shorter during the upload")
            at += len(data)
            yield data

    def close(self) -> None:
        self._file.close()


class Client:
    """One server, and at most one job on it."""

    def __init__(self, url: str, token: str = "", tls: Optional[ssl.SSLContext] = None):
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
            port = parts.port
            (parts.hostname or "").encode("idna"), parts.path.encode("ascii")
        except ValueError:
            parts, port = urllib.parse.urlsplit(""), None
        if parts.scheme not in ("http", "https") or not re.fullmatch(r"[^\s/?#]+", parts.hostname or ""):
            raise Failure(f"{url!r} is not the address of a server", "use an address such as http://127.0.0.1:8448")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self.local = parts.hostname in LOOPBACK
        self.revive: Callable[[], None] = lambda: None  # called before a lost server is tried again
        self._parts, self._port, self._token, self._tls = parts, port, token, tls
        self._aborted = threading.Event()
        self._heard = 0.0  # when the server last answered
        self._lock = threading.Lock()  # of _open
        self._open: set = set()
        self._creating = threading.Lock()  # held while an upload or a job is created
        self.job_id = ""
        self._uploads: List[str] = []

    def other(self, job_id: str, uploads: List[str]) -> "Client":
        """Returns a client of the same server for a job that another process has left behind."""
        c = Client(self.url, self._token, self._tls)
        c.job_id, c._uploads = job_id, uploads
        return c

    # Requests

    @contextlib.contextmanager
    def call(self, method: str, path: str, body: Any = None, headers: Optional[Dict[str, str]] = None,
             timeout: float = 30.0, private: bool = False) -> Iterator[http.client.HTTPResponse]:
        """Makes one request. `timeout` applies while the socket is silent. abort ends the request, unless it is private."""
        kind: Any = functools.partial(http.client.HTTPSConnection, context=self._tls) if self._parts.scheme == "https" else http.client.HTTPConnection
        conn = kind(self._parts.hostname, self._port, timeout=timeout)
        head = {"Connection": "close", "User-Agent": f"comfyui-lipstream/{VERSION}", **(headers or {})}
        if self._token:
            head["Authorization"] = "Bearer " + self._token
        sock = None
        try:
            conn.connect()
            sock = conn.sock  # a response takes it away from conn
            with self._lock:
                self._open.add((sock, private))
                if self._aborted.is_set() and not private:
                    raise Lost("interrupted")
            try:
                conn.request(method, self._parts.path.rstrip("/") + path, body=body, headers=head)
            except (BrokenPipeError, ConnectionResetError):
                if conn.sock is None:
                    raise  # otherwise the server may have refused the rest of the body, and its answer says why
            with conn.getresponse() as r:
                self._heard = time.monotonic()
                if r.status >= 400:
                    raise _problem(r, self.url)
                yield r
        except ssl.SSLError as e:
            hint = _tls_hint(e)
            if not hint:
                raise Lost(f"the connection to {self.url} broke ({e})", "if the server wants a certificate of its clients, set LIPSTREAM_TLS_CERT and LIPSTREAM_TLS_KEY") from None
            refused = isinstance(e, ssl.SSLCertVerificationError)
            what = f"the certificate of {self.url} is not trusted" if refused else f"no secure connection to {self.url} is possible"
            raise Failure(f"{what} ({getattr(e, 'verify_message', '') or e})", hint, problem=True) from None
        except (OSError, http.client.HTTPException, UnicodeError) as e:
            text = getattr(e, "strerror", None) or str(e) or type(e).__name__
            raise Lost(f"no Lipstream server answers at {self.url} ({text})", "start one there: lipstream serve") from None
        finally:
            with self._lock:
                self._open.discard((sock, private))
            conn.close()

    def json(self, method: str, path: str, body: Any = None, timeout: float = 30.0, private: bool = False, headers: Optional[Dict[str, str]] = None) -> Any:
        """Sends JSON and returns the JSON of the answer (None for an empty answer)."""
        headers = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        data = json.dumps(body).encode() if body is not None else None
        with self.call(method, path, data, headers, timeout, private) as r:
            text = r.read()
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise Failure(f"what answers at {self.url} is not a Lipstream server", "check the address") from None

    def negotiate(self, timeout: float = 10.0) -> str:
        """Returns the server's version. Fails unless the server has our version of the API."""
        try:
            health = self.json("GET", "/healthz", timeout=timeout)
        except Failure as e:
            if e.problem or isinstance(e, Lost):
                raise
            raise Failure(f"what answers at {self.url} is not a Lipstream server: {e.message}", e.hint or "check the address") from None
        if not isinstance(health, dict) or "version" not in health:
            raise Failure(f"what answers at {self.url} is not a Lipstream server", "check the address")
        api, version = health.get("api"), health["version"]
        if api != API:
            newer = isinstance(api, int) and api > API
            raise Failure(
                f"these nodes (comfyui-lipstream {VERSION}) need API {API}, but the server at {self.url} (lipstream {version}) has "
                + (f"API {api}" if api is not None else "none"),
                "update the nodes: lipstream comfyui install" if newer else "update the server (the program lipstream), and end the old one if it still runs")
        return str(version)

    def again(self, f: Callable[[], Any], progress: Callable[[], int] = lambda: 0) -> Any:
        """Returns f(), and tries it again while the server is lost. Gives up when the server was
        silent for PATIENCE seconds, or broke off FUTILE answers while progress() did not rise."""
        self._heard, pause, futile, best = time.monotonic(), 0.2, 0, progress()
        while True:
            before = self._heard
            try:
                return f()
            except Lost as e:
                if progress() > best:
                    pause, futile, best = 0.2, 0, progress()
                elif self._heard > before and e.status != 503:  # 503: the server is busy
                    futile += 1
                if self._aborted.wait(pause) or time.monotonic() > self._heard + PATIENCE:
                    raise
                if futile >= FUTILE:
                    raise Failure(f"the server at {self.url} breaks off its answers", "see its log for the reason") from None
                pause = min(2 * pause, 5.0)
                self.revive()

    # Uploads

    def upload(self, name: str, source: Source, on_bytes: Callable[[int], None]) -> str:
        """Uploads a file by tus, resumes at the server's offset after an error, and returns its id."""
        meta = "filename " + base64.b64encode(name.encode()).decode()
        with self._create():
            with self.call("POST", "/v1/uploads", headers={**TUS, "Upload-Length": str(source.size), "Upload-Metadata": meta}, private=True) as r:
                ident = (r.getheader("Location") or "").rpartition("/")[2]
            self._uploads.append(ident)
        path = "/v1/uploads/" + ident
        offset, failures = 0, 0
        while offset < source.size:
            end = min(offset + PIECE, source.size)
            before = offset
            try:
                with self.call("PATCH", path, self._body(source, offset, end, on_bytes), {
                        **TUS, "Content-Type": "application/offset+octet-stream",
                        "Content-Length": str(end - offset), "Upload-Offset": str(offset)}) as r:
                    offset = int(r.getheader("Upload-Offset") or end)
            except Failure as e:
                # 409: the server has another offset, or is still busy with the broken connection.
                if not isinstance(e, Lost) and e.status != 409 or self._aborted.is_set():
                    raise
                failures += 1
                if failures > 6:
                    raise
                self._aborted.wait(0.1 * 2 ** failures)
                offset = self.again(lambda: self._offset(path))
            if offset > before:
                failures = 0
        return ident

    def _body(self, source: Source, start: int, end: int, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
        for data in source.chunks(start, end):
            if self._aborted.is_set():
                raise Lost("interrupted")
            yield data
            start += len(data)
            on_bytes(start)

    def _offset(self, path: str) -> int:
        with self.call("HEAD", path, headers=TUS) as r:
            return int(r.getheader("Upload-Offset") or 0)

    # Jobs

    def submit(self, spec: Dict[str, Any]) -> str:
        """Submits the job and returns its id."""
        # The key lets the server recognise the request if it is sent again because the answer was lost.
        key = {"Idempotency-Key": uuid.uuid4().hex}
        with self._create():
            self.job_id = self.again(lambda: self.json("POST", "/v1/jobs", spec, timeout=600, private=True, headers=key))["id"]
        return self.job_id

    @contextlib.contextmanager
    def _create(self) -> Iterator[None]:
        """Encloses a private request. If it were cut off, a job or upload with an unknown id could stay on the server."""
        try:
            with self._creating:
                if self._aborted.is_set():
                    raise Lost("interrupted")
                yield
        finally:
            if self._aborted.is_set():  # abort may not have waited for the lock
                self.clean()
        if self._aborted.is_set():
            raise Lost("interrupted")

    def follow(self, on_event: Callable[[str, Dict[str, Any]], None]) -> Dict[str, Any]:
        """Waits until the job ends and returns its record. Fails if the job failed."""
        last, pause, self._heard = "", 0.05, time.monotonic()
        path = "/v1/jobs/" + self.job_id
        while True:
            try:
                # The server sends something every 15 s.
                with self.call("GET", path + "/events", headers={"Last-Event-ID": last} if last else {}, timeout=45) as r:
                    for ident, kind, data in _events(self._lines(r)):
                        last, pause = ident or last, 0.05
                        on_event(kind, data)
                job = self.json("GET", path)
            except Lost:
                if self._aborted.is_set() or time.monotonic() > self._heard + PATIENCE:
                    raise
                self.revive()
                job = {}
            state = job.get("state")
            if state in ENDED:
                break
            self._aborted.wait(pause)
            pause = min(2 * pause, 2.0)
        if state == "failed":
            problem = job.get("problem") or {}
            raise Failure(problem.get("message") or "the job failed", problem.get("hint") or "")
        if state == "cancelled":
            raise Failure("the job was cancelled on the server")
        return job

    def _lines(self, r: http.client.HTTPResponse) -> Iterator[bytes]:
        for line in r:
            self._heard = time.monotonic()
            yield line

    def preview(self, tag: str) -> Tuple[str, bytes]:
        """Returns the tag and the JPEG of the latest frame; b"" if it still has the given tag, or if no frame exists."""
        try:
            with self.call("GET", f"/v1/jobs/{self.job_id}/preview", headers={"If-None-Match": tag} if tag else {}, timeout=5) as r:
                return (r.getheader("ETag") or "", r.read()) if r.status == 200 else (tag, b"")
        except Failure:
            return tag, b""

    def frames(self, begin: Callable[[int, int, int], Callable[[int, memoryview], None]]) -> None:
        """Reads the frames of the result as RGB24.

        begin(width, height, frames) returns put(offset, data), which is called with the
        bytes of all frames in order. After a broken connection, some bytes come twice.
        """
        put: Optional[Callable[[int, memoryview], None]] = None
        unit = count = at = 0
        buffer = memoryview(bytearray(BLOCK))

        def read() -> None:
            nonlocal put, unit, count, at
            first = at // unit if unit else 0
            at = first * unit
            with self.call("GET", f"/v1/jobs/{self.job_id}/frames" + (f"?first={first}" if first else ""), timeout=120) as r:
                if put is None:
                    width, height, count = (int(r.getheader("Lipstream-" + n) or 0) for n in ("Width", "Height", "Frames"))
                    if min(width, height, count) < 1:
                        raise Failure("the server's answer has no frames", "update the server (the program lipstream)")
                    unit, put = width * height * 3, begin(width, height, count)
                while at < unit * count:
                    n = r.readinto(buffer[:min(BLOCK, unit * count - at)])
                    if not n:
                        raise http.client.IncompleteRead(b"")
                    put(at, buffer[:n])
                    at += n
                    self._heard = time.monotonic()

        self.again(read, lambda: at)

    def result(self, to: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        """Writes the result to a file."""
        at = 0

        def read() -> None:
            nonlocal at
            with self.call("GET", f"/v1/jobs/{self.job_id}/result", headers={"Range": f"bytes={at}-"} if at else {}, timeout=120) as r:
                if at and r.status != 206:
                    at = 0
                to.seek(at)
                to.truncate()
                left = int(r.getheader("Content-Length") or 0)
                while left > 0:
                    data = r.read(min(BLOCK, left))
                    if not data:
                        raise http.client.IncompleteRead(b"")
                    try:
                        to.write(data)
                    except OSError as e:
                        raise Failure(f"the result cannot be written: {e.strerror}", "check that the disk has room") from None
                    at += len(data)
                    left -= len(data)
                    self._heard = time.monotonic()
                    on_bytes(at)

        self.again(read, lambda: at)

    # Ends

    def abort(self) -> None:
        """Ends all waiting requests and cancels the job, within 1.5 s."""
        until = time.monotonic() + 1.5
        self._cut()
        if self._creating.acquire(timeout=1.0):  # otherwise _create sees the flag and cleans up
            self._creating.release()
            self.clean(wait=until - time.monotonic())

    def leave(self) -> None:
        """Does the same when Python exits and no thread can be started any more."""
        self._cut()
        if self._creating.acquire(timeout=2.0):
            self._creating.release()
        self._tidy(False, time.monotonic() + 3.0, threading.Event())

    def _cut(self) -> None:
        with self._lock:
            self._aborted.set()
            sockets = [s for s, private in self._open if not private]
        for s in sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def clean(self, remove: bool = False, wait: float = 0.0) -> None:
        """Cancels the job unless it has ended, and removes its uploads, result and record
        in the background. The record of a failed job, whose log may be needed, is removed
        only if remove is set. wait is how long to wait for the first request, in seconds."""
        told = threading.Event()
        threading.Thread(target=self._tidy, args=(remove, time.monotonic() + TIDY, told), name="lipstream-clean").start()
        told.wait(wait)

    def _tidy(self, remove: bool, until: float, told: threading.Event) -> None:
        uploads, self._uploads = self._uploads, []
        path, ended, pause = "/v1/jobs/" + self.job_id, not self.job_id, 0.1
        while time.monotonic() < until and (uploads or not ended):
            try:
                if ended:
                    with self.call("DELETE", "/v1/uploads/" + uploads[0], headers=TUS, timeout=3, private=True):
                        uploads.pop(0)
                    continue
                state = self.json("GET", path, timeout=3, private=True).get("state")
                if remove or state != "failed":
                    self.json("DELETE", path, timeout=3, private=True)
                told.set()
                if state in ENDED:
                    ended = True
                    continue
            except Failure as e:
                if e.status in (401, 403, 404):
                    if ended:
                        uploads.pop(0)
                    ended = True
                    continue
            time.sleep(pause)  # 409: the job has not ended yet
            pause = min(2 * pause, 2.0)
        told.set()


def _tls_hint(e: ssl.SSLError) -> str:
    """Returns what to do about an error of TLS, or "" if the connection only broke."""
    text = str(e).upper().replace(" ", "_")
    if "CERTIFICATE_HAS_EXPIRED" in text:
        return "renew the certificate of the server, and check the clock of this machine"
    if "MISMATCH" in text:
        return "use a host name for which the certificate of the server was made"
    if isinstance(e, ssl.SSLCertVerificationError):
        return "set LIPSTREAM_SERVER to this address, and LIPSTREAM_TLS_CA to the file with the server's certificate authority"
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER" in text:
        return "the server does not use TLS: write http:// in its address"
    if "CERTIFICATE_REQUIRED" in text or "BAD_CERTIFICATE" in text or "UNKNOWN_CA" in text or "HANDSHAKE_FAILURE" in text:
        return "the server wants a certificate of this client: set LIPSTREAM_TLS_CERT and LIPSTREAM_TLS_KEY"
    return ""


def _problem(r: http.client.HTTPResponse, url: str) -> Failure:
    """Returns the error that an answer describes (RFC 9457)."""
    body = r.read(1 << 16)
    if b"HTTP request to an HTTPS server" in body:
        return Failure(f"the server at {url} uses TLS", "write https:// in its address", r.status, problem=True)
    try:
        p = json.loads(body)
        message, hint = p.get("detail") or p.get("title"), p.get("hint") or ""
    except (ValueError, AttributeError):
        message, hint = "", ""
    if r.status == 401 and not hint:
        hint = "set LIPSTREAM_TOKEN_FILE or LIPSTREAM_TOKEN to the server's token"
    kind = Lost if r.status == 503 else Failure  # 503: the server is busy, or ending
    return kind(message or f"{url} answers {r.status} {r.reason}", hint, r.status, bool(message))


def _events(lines: Iterator[bytes]) -> Iterator[Tuple[str, str, Dict[str, Any]]]:
    """Yields id, type and data of server-sent events with JSON."""
    ident = kind = data = ""
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                with contextlib.suppress(ValueError):
                    yield ident, kind, json.loads(data)
            ident = kind = data = ""
            continue
        key, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if key == "id":
            ident = value
        elif key == "event":
            kind = value
        elif key == "data":
            data += value
