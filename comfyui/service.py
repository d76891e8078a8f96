"""Finds the server, and starts one on this machine where none answers."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import Iterator, Optional, Set, Tuple
from urllib.parse import urlsplit

from .client import Client, Failure, Lost

log = logging.getLogger("lipstream")

LISTEN = "127.0.0.1:8448"
READY = 60.0  # seconds that a server may take to start
GRACE = 10.0  # seconds that it may take to end
NAME = "comfyui"  # of the files of our jobs, without extension

_lock = threading.Lock()
_child: Optional[subprocess.Popen] = None
_working: Set[Client] = set()


def connect(server: str) -> Client:
    """A client of a server that speaks our API.

    server is an address; empty is LIPSTREAM_SERVER, else this machine's, which
    is started if need be.
    """
    own = os.environ.get("LIPSTREAM_SERVER", "").strip()
    url = server.strip() or own or "http://" + LISTEN
    client = Client(url, _token(url, own))
    try:
        client.negotiate()
    except Lost:
        if server.strip() or own:
            raise
        with _lock:
            _start(client)
        client.negotiate()
    return client


@contextlib.contextmanager
def working(client: Client) -> Iterator[None]:
    """While its job is wanted. When ComfyUI ends meanwhile, the job is cancelled."""
    _working.add(client)
    try:
        yield
    finally:
        _working.discard(client)


@atexit.register
def _leave() -> None:
    for client in list(_working):
        client.leave()
    stop()


def _token(url: str, own: str) -> str:
    """The token, for this machine and the server of LIPSTREAM_SERVER only: an
    address out of somebody's workflow must not get it."""
    def host(u: str) -> Tuple[Optional[str], Optional[int]]:
        parts = urlsplit(u if "://" in u else "http://" + u)
        try:
            return parts.hostname, parts.port
        except ValueError:
            return None, None

    if host(url)[0] not in ("127.0.0.1", "localhost", "::1") and host(url) != host(own):
        return ""
    path = os.environ.get("LIPSTREAM_TOKEN_FILE", "")
    if path:
        try:
            with open(path, encoding="utf-8") as f:
                return f.read().strip()
        except OSError as e:
            raise Failure(f"LIPSTREAM_TOKEN_FILE: {path} cannot be read: {e.strerror}") from None
    return os.environ.get("LIPSTREAM_TOKEN", "").strip()


def binary() -> str:
    """The path of the program lipstream."""
    note = os.path.join(os.path.dirname(os.path.abspath(__file__)), "binary.txt")
    noted = ""
    with contextlib.suppress(OSError):
        with open(note, encoding="utf-8") as f:
            noted = f.read().strip()
    for said, path in (("LIPSTREAM_BINARY", os.environ.get("LIPSTREAM_BINARY", "").strip()), (note, noted)):
        if path:
            if not os.path.isfile(path):
                raise Failure(f"{said} names {path}, which is not there", "correct it, or remove it to search PATH")
            return path
    found = shutil.which("lipstream")
    if not found:
        raise Failure(f"no Lipstream server answers at http://{LISTEN}, and the program lipstream is not installed",
                      "install it, or name it in LIPSTREAM_BINARY, or a server elsewhere in LIPSTREAM_SERVER")
    return found


def log_path() -> str:
    """Where the log of the server that we start goes."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    folder = os.path.join(base or tempfile.gettempdir(), "lipstream")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        folder = tempfile.gettempdir()
    return os.path.join(folder, "comfyui-serve.log")


def _start(client: Client) -> None:
    """Starts the server unless it runs by now, and waits until it is ready."""
    global _child
    if not _ready(client):
        began = False
        if _child is None or _child.poll() is not None:
            stop()  # lets go of what is left of it
            # It ends when its standard input does, however this process ends.
            command = [binary(), "serve", "--listen", LISTEN, "--max-upload", "200GB", "--max-stored", "400GB", "--until-eof", "--grace", "3s"]
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
            try:
                with open(log_path(), "wb") as out:
                    _child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=out, **own_group)
            except OSError as e:
                raise Failure(f"{command[0]} cannot be started: {e.strerror}", "is it the program for this system?") from None
            began = True
            log.info("lipstream: started %s, its log is %s", " ".join(command), log_path())
        until = time.monotonic() + READY
        while not _ready(client):
            if _child.poll() is not None:
                if _ready(client):  # somebody else's was faster
                    return
                raise _failed("ended at once")
            if time.monotonic() > until:
                raise _failed(f"was not ready in {READY:.0f} s")
            time.sleep(0.1)
        if began:
            _forget(client)


def _forget(client: Client) -> None:
    """Cancels jobs of a ComfyUI that was killed: nobody waits for them any more."""
    with contextlib.suppress(Failure):
        for state in ("running", "queued"):
            for job in client.json("GET", "/v1/jobs?limit=1000&state=" + state).get("jobs") or []:
                if os.path.splitext((job.get("spec") or {}).get("name", ""))[0] == NAME:
                    log.info("lipstream: cancels job %s of a ComfyUI that was killed", job["id"])
                    client.json("DELETE", "/v1/jobs/" + job["id"])


def _ready(client: Client) -> bool:
    try:
        with client.call("GET", "/readyz", timeout=2):
            return True
    except Failure:
        return False


def _failed(how: str) -> Failure:
    """What the log says last: an error, and perhaps a line with a hint."""
    try:
        with open(log_path(), "rb") as f:
            f.seek(max(0, f.seek(0, 2) - 4096))
            lines = [s.strip() for s in f.read().decode("utf-8", "replace").split("\n") if s.strip()]
    except OSError:
        lines = []
    hint = lines.pop()[len("hint:"):].strip() + "; " if len(lines) > 1 and lines[-1].startswith("hint:") else ""
    return Failure(f"lipstream serve {how}: {lines[-1] if lines else 'it said nothing'}", f"{hint}its log is {log_path()}")


def stop() -> None:
    """Ends the server if it is ours."""
    global _child
    child, _child = _child, None
    if child is None:
        return
    child.stdin.close()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
