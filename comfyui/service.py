"""Finds the server, and starts one on this machine if none answers."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import uuid
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple
from urllib.parse import urlsplit

from . import host, program
from .client import LOOPBACK, Client, Failure, Lost

log = logging.getLogger("lipstream")

LISTEN = "127.0.0.1:8448"
READY = 60.0  # seconds that a server may take to start
GRACE = 10.0  # seconds that it may take to end
TAKEN = 6  # its exit code if it cannot write, or if another process uses its folder or port
TAKEN_FOR = 15.0  # seconds that the other process may take to release them
NAME = f"comfyui-{uuid.uuid4().hex[:8]}"  # the name of this process's jobs

_lock = threading.Lock()
_child: Optional[subprocess.Popen] = None
_working: Set[Client] = set()


def connect(server: str, say: program.Say = program.quiet) -> Client:
    """Returns a client of a server that has our version of the API.

    server is an address. If it is empty, the server is that of LIPSTREAM_SERVER, or
    else one on this machine, which is started if necessary, and again if it ends
    unexpectedly. Before the first start, what is missing on this machine is installed;
    say shows the progress.
    """
    def install() -> str:
        binary = program.find(say)
        program.prepare(binary, _environment(), say)
        return binary

    client = _client(server)
    if server.strip() or _own():
        client.negotiate()
        return client
    try:
        client.negotiate()
        started = _ready(client)
    except Lost:
        started = False
    except Failure as e:
        raise Failure(e.message, f"end it, or start lipstream serve with another --listen and set LIPSTREAM_SERVER; {e.hint}".rstrip("; ")) from None
    if not started:
        with _lock:
            if _start(client, install):
                _forget(client)
        client.negotiate()

    def revive() -> None:
        with _lock:
            if _child is None or _child.poll() is not None:
                log.warning("lipstream: the server has ended; starting it again")
                _start(client.other("", []), program.find)  # another client, so that Cancel does not end these requests

    client.revive = revive
    return client


def running() -> Client:
    """Returns a client of the default server, without starting it."""
    return _client("")


def _client(server: str) -> Client:
    url = server.strip() or _own() or "http://" + LISTEN
    return Client(url, _token(), _tls()) if trusted(server) else Client(url)


def _own() -> str:
    return os.environ.get("LIPSTREAM_SERVER", "").strip()


def trusted(server: str) -> bool:
    """Reports whether an address is this machine or the server of LIPSTREAM_SERVER.
    Other addresses may come from somebody's workflow: they get no token, no
    certificate, and no files from outside ComfyUI's folders."""
    def parts(u: str) -> Tuple[Optional[str], Optional[int], str]:
        try:
            p = urlsplit(u if "://" in u else "http://" + u)
            return p.hostname, p.port, p.scheme
        except ValueError:
            return None, None, ""

    url = server.strip()
    return not url or parts(url)[0] in LOOPBACK or parts(url) == parts(_own())


@contextlib.contextmanager
def working(client: Client) -> Iterator[None]:
    """Encloses the work on a job. If ComfyUI ends meanwhile, the job is cancelled."""
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


def _token() -> str:
    path = os.environ.get("LIPSTREAM_TOKEN_FILE", "")
    name, token = "LIPSTREAM_TOKEN", os.environ.get("LIPSTREAM_TOKEN", "").strip()
    if path:
        name = "LIPSTREAM_TOKEN_FILE"
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                token = f.read(4096).strip()
        except OSError as e:
            raise Failure(f"LIPSTREAM_TOKEN_FILE: {path} cannot be read: {e.strerror}") from None
    if not re.fullmatch(r"[!-~]*", token):
        raise Failure(f"{name} does not contain a token", "use one line of letters, digits and signs, without spaces")
    return token


def _tls() -> Optional[ssl.SSLContext]:
    """Returns the authorities in LIPSTREAM_TLS_CA and the certificate in LIPSTREAM_TLS_CERT; None if neither is set."""
    ca, cert, key = (os.environ.get("LIPSTREAM_TLS_" + name, "").strip() for name in ("CA", "CERT", "KEY"))
    if not ca and not cert:
        return None
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None, password="")  # otherwise Python may ask for one
    except (OSError, ValueError) as e:
        raise Failure(f"the files in LIPSTREAM_TLS_CA, LIPSTREAM_TLS_CERT and LIPSTREAM_TLS_KEY cannot be used: {e}", "set them to PEM files") from None
    return context


def log_path() -> str:
    """Returns the path of the log of the server that the nodes start."""
    return os.path.join(program.folder(), "comfyui-serve.log")


def _environment() -> Dict[str, str]:
    """Returns the environment of the program. With it, Lipstream uses the CUDA libraries of ComfyUI's PyTorch and
    the checkpoints in ComfyUI's folders, so that nobody downloads them twice."""
    env = {"LIPSTREAM_PYTHON": sys.executable or "", **os.environ}
    more = env.get("LIPSTREAM_MODELS_PATH", "")
    env["LIPSTREAM_MODELS_PATH"] = os.pathsep.join(([more] if more else []) + [f for f in host.model_folders() if os.pathsep not in f])
    return env


def _start(client: Client, find: Callable[[], str]) -> bool:
    """Starts the server unless it already runs, and waits until it is ready. find returns the program; it is called
    only if it is needed, and may take long. Reports whether this process started the server."""
    began, spawned, binary = time.monotonic(), None, ""
    while not _ready(client):
        now = time.monotonic()
        # A server that answers but is not ready is ending, or has just started.
        if (_child is None or _child.poll() is not None) and (spawned is None or now > spawned + 0.5) and not _answers(client):
            # Another server that is ending may have released the port, but not yet its folder.
            if spawned is not None and (_child.returncode != TAKEN or now > began + TAKEN_FOR):
                raise _failed("ended immediately")
            if not binary:
                binary = find()
                began = now = time.monotonic()
            spawned = now
            _spawn(binary)
        if now > began + READY:
            raise _failed(f"was not ready in {READY:.0f} s")
        time.sleep(0.1)
    return spawned is not None and _child is not None and _child.poll() is None


def _spawn(binary: str) -> None:
    global _child
    stop()  # releases what is left of the last server
    # The server ends when its standard input is closed, however this process ends.
    command = [binary, "serve", "--listen", LISTEN, "--max-upload", "200GB", "--max-stored", "400GB", "--until-eof", "--grace", "3s"]
    own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {"start_new_session": True}
    try:
        out = open(log_path(), "wb")
    except OSError as e:
        raise Failure(f"the server's log {log_path()} cannot be written: {e.strerror}") from None
    with out:
        try:
            _child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=out, env=_environment(), **own_group)
        except OSError as e:
            raise Failure(f"{command[0]} cannot be started: {e.strerror}", "check that it is the program for this system") from None
    log.info("lipstream: started %s; its log is %s", " ".join(command), log_path())


def _uploads(spec: Dict[str, Any]) -> List[str]:
    sources = [*(spec.get(name) for name in ("video", "audio", "soundtrack", "mask")), *(s.get("audio") for s in spec.get("speakers") or [])]
    return [s["upload"] for s in sources if s and s.get("upload")]


def _forget(client: Client) -> None:
    """Cancels and removes what a killed ComfyUI has left on the server."""
    with contextlib.suppress(Failure):
        for state in ("running", "queued", "done"):
            for job in client.json("GET", "/v1/jobs?limit=1000&state=" + state).get("jobs") or []:
                spec = job.get("spec") or {}
                name = os.path.splitext(spec.get("name", ""))[0]
                if re.fullmatch("comfyui-[0-9a-f]{8}", name) and name != NAME:
                    log.info("lipstream: removing job %s of a ComfyUI that was killed", job["id"])
                    client.other(job["id"], _uploads(spec)).clean()


def _ready(client: Client) -> bool:
    try:
        with client.call("GET", "/readyz", timeout=2):
            return True
    except Failure:
        return False


def _answers(client: Client) -> bool:
    try:
        client.negotiate(timeout=2)
        return True
    except Lost:
        return False


def _failed(how: str) -> Failure:
    """Returns a failure with the last error in the log, and its hint if there is one."""
    try:
        with open(log_path(), "rb") as f:
            f.seek(max(0, f.seek(0, 2) - 4096))
            lines = [s.strip() for s in f.read().decode("utf-8", "replace").split("\n") if s.strip()]
    except OSError:
        lines = []
    hint = lines.pop()[len("hint:"):].strip() + "; " if len(lines) > 1 and lines[-1].startswith("hint:") else ""
    return Failure(f"lipstream serve {how}: {lines[-1] if lines else 'its log is empty'}", f"{hint}its log is {log_path()}")


def stop() -> None:
    """Stops the server if this process started it."""
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
