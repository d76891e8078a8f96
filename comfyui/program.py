"""The program lipstream: where it is, how it gets here, and what it needs on this machine.

The package of a release has a file binary.json with the address, the size and the SHA-256 of the
release's archives, so that installing the nodes is the whole installation.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import http.client
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from typing import Any, BinaryIO, Callable, Dict, List, Tuple

from .client import VERSION, Failure

log = logging.getLogger("lipstream")

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "lipstream.exe" if sys.platform == "win32" else "lipstream"
SILENCE = 30.0  # seconds without a byte until a download fails
TRIES = 3
UNUSED = 30 * 24 * 3600.0  # seconds after which the program of another release is removed

Say = Callable[[str], None]  # shows a line on the node


def quiet(_: str) -> None:
    """A Say that shows nothing."""


def folder() -> str:
    """Returns Lipstream's folder in the user's cache folder, or a temporary one if it cannot be made."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    if not base:
        return _private()
    path = os.path.join(base, "lipstream")
    try:
        os.makedirs(path, exist_ok=True)
    except OSError:
        return _private()
    return path


@functools.lru_cache(maxsize=None)
def _private() -> str:
    """Returns a temporary folder of this process. In the shared one, other users could leave a program for us to run."""
    return tempfile.mkdtemp(prefix="lipstream-")


@atexit.register  # before service registers the end of the server, so that this runs after it
def _leave() -> None:
    if _private.cache_info().currsize:
        shutil.rmtree(_private(), ignore_errors=True)


def no_window() -> Dict[str, Any]:
    """Returns the arguments of subprocess for a program that must not open a console window."""
    return {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}


def find(say: Say = quiet) -> str:
    """Returns the path of the program: that of LIPSTREAM_BINARY, the one that installed these nodes or lies
    beside them, the one on PATH, or the one of the release, which is downloaded if necessary."""
    said = os.environ.get("LIPSTREAM_BINARY", "").strip()
    if said:
        if not os.path.isfile(said):
            raise Failure(f"LIPSTREAM_BINARY names {said}, which does not exist", "correct it, or unset it to search PATH")
        return said
    noted = ""
    with contextlib.suppress(OSError), open(os.path.join(HERE, "binary.txt"), encoding="utf-8") as f:
        noted = f.read().strip()
    # noted is the program that installed these nodes. An update may have moved it.
    for path in (noted, os.path.join(HERE, NAME), shutil.which("lipstream") or ""):
        if os.path.isabs(path) and os.path.isfile(path):  # on Windows, which finds programs in the current folder, too
            return path
    return fetch(say)


def fetch(say: Say = quiet) -> str:
    """Downloads the program of the release unless it is there already, and returns its path."""
    try:
        with open(os.path.join(HERE, "binary.json"), encoding="utf-8") as f:
            release = json.load(f)
    except OSError:
        raise Failure("the program lipstream is not installed",
                      "install it, or set LIPSTREAM_BINARY to its path, or LIPSTREAM_SERVER to another server") from None
    system = {"win32": "windows"}.get(sys.platform, sys.platform)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    packed = release["platforms"].get(f"{system}/{arch}")
    if not packed:
        raise Failure(f"Lipstream has no program for {system}/{arch}", "set LIPSTREAM_SERVER to a server on another machine")
    path = os.path.join(folder(), "comfyui", packed["sha256"][:16], NAME)
    if not os.path.isfile(path):  # it gets this name only when it is complete and checked
        _download(release["url"] + packed["name"], packed, path, say)
        _remove_old(os.path.dirname(path))
    with contextlib.suppress(OSError):
        os.utime(os.path.dirname(path))
    return path


def _remove_old(keep: str) -> None:
    """Removes the programs of other releases that have not been used for a while: another ComfyUI of this user
    may have nodes of another release. One that is running stays on Windows."""
    parent, name = os.path.split(keep)
    with contextlib.suppress(OSError):
        for other in os.listdir(parent):
            path = os.path.join(parent, other)
            if other != name and os.path.getmtime(path) < time.time() - UNUSED:
                shutil.rmtree(path, ignore_errors=True)


def _download(url: str, packed: Dict[str, Any], path: str, say: Say) -> None:
    by_hand = f"on a machine without a connection, download {url} elsewhere, unpack it, and set LIPSTREAM_BINARY to the path of {NAME} in it"
    say("downloading lipstream")
    log.info("lipstream: downloading %s (%.0f MB)", url, packed["size"] / 1e6)
    for left in reversed(range(TRIES)):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=os.path.dirname(path)) as temp:
                archive, program = os.path.join(temp, "archive"), os.path.join(temp, NAME)
                with open(archive, "wb") as f:
                    _receive(url, packed, f, say)
                _unpack(archive, packed, program)
                try:
                    os.replace(program, path)
                except OSError:
                    if not os.path.isfile(path):  # otherwise another ComfyUI was faster, and runs it
                        raise
            return
        except (OSError, http.client.HTTPException) as e:  # URLError and time limits are an OSError
            if not left:
                raise Failure(f"{url} cannot be downloaded: {e}", f"check the connection and the disk, then run the workflow again; {by_hand}") from None
            log.info("lipstream: %s; trying again", e)


def _receive(url: str, packed: Dict[str, Any], file: BinaryIO, say: Say) -> None:
    """Writes the archive to file. Fails unless it has the size and the SHA-256 that the package names."""
    request = urllib.request.Request(url, headers={"User-Agent": f"comfyui-lipstream/{VERSION}"})
    done, tenth, digest = 0, 0, hashlib.sha256()
    with urllib.request.urlopen(request, timeout=SILENCE) as r:
        while done <= packed["size"]:
            data = r.read(1 << 18)
            if not data:
                break
            file.write(data)
            digest.update(data)
            done += len(data)
            if 10 * done // packed["size"] > tenth:
                tenth = 10 * done // packed["size"]
                say(f"downloading lipstream: {10 * tenth} %")
                log.info("lipstream: downloaded %d %%", 10 * tenth)
    if done < packed["size"]:
        raise OSError(f"the connection broke off after {done} of {packed['size']} bytes")
    if digest.hexdigest() != packed["sha256"]:
        raise Failure(f"{url} is not the file that these nodes need: its SHA-256 is {digest.hexdigest()}, not {packed['sha256']}",
                      "run the workflow again; if that does not help, install the newest version of the nodes")


def _unpack(archive: str, packed: Dict[str, Any], to: str) -> None:
    """Copies the program out of an archive whose SHA-256 was checked."""
    with contextlib.ExitStack() as files:
        if packed["name"].endswith(".zip"):
            source: Any = files.enter_context(files.enter_context(zipfile.ZipFile(archive)).open(packed["program"]))
        else:
            source = files.enter_context(tarfile.open(archive)).extractfile(packed["program"])
        with open(to, "wb") as f:
            shutil.copyfileobj(source, f)
    os.chmod(to, 0o755)


def prepare(program: str, env: Dict[str, str], say: Say = quiet) -> None:
    """Installs what the program needs and this machine does not have: ffmpeg, and a runtime. It asks
    `lipstream doctor` once for each version of the program."""
    note = os.path.join(folder(), "comfyui-prepared.json")
    state = json.dumps([program, os.stat(program).st_mtime_ns, sys.executable])
    with contextlib.suppress(OSError), open(note, encoding="utf-8") as f:
        if f.read() == state:
            return
    say("checking this machine")
    checks = _ask(program, env, "doctor").get("checks") or []
    for c in checks:
        if c["name"] == "ffmpeg" and c["status"] == "missing":
            if not _fix(c):
                raise Failure(c["detail"], c.get("fix", ""))
            _install(program, env, _fix(c), say)
    runtimes, works = _runtimes(checks, _ask(program, env, "runtime", "list"))
    for name in runtimes:
        try:
            _install(program, env, name, say)
            break
        except Failure as e:
            if name == runtimes[-1] and not works:
                raise
            log.warning("lipstream: %s", e)
    else:
        if runtimes:
            return  # it is tried again the next time
    with contextlib.suppress(OSError), open(note, "w", encoding="utf-8") as f:
        f.write(state)


def _fix(check: Dict[str, str]) -> str:
    """Returns what `lipstream runtime install` can install to fix a check, or ""."""
    found = re.search(r"lipstream runtime install ([\w-]+)", check.get("fix", ""))
    return found.group(1) if found else ""


def _runtimes(checks: List[Dict[str, str]], known: List[Dict[str, str]]) -> Tuple[List[str], bool]:
    """Returns the runtimes to install, of which one is enough, and whether one works already."""
    names = {r["name"] for r in known}
    works = any(c["name"] in names and c["status"] == "ok" for c in checks)
    wanted = [] if works else [_fix(c) for c in checks if c["name"] in names and _fix(c)][:1]
    cuda = any(r["name"].startswith("cuda") and r.get("path") for r in known)
    if not cuda and any(c["name"] == "gpu" and re.search("nvidia|geforce|tesla|quadro|rtx", c["detail"], re.IGNORECASE) for c in checks):
        wanted.insert(0, "cuda")
    return wanted, works


def _ask(program: str, env: Dict[str, str], *command: str) -> Any:
    try:
        done = subprocess.run([program, *command, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **no_window())
        return json.loads(done.stdout)
    except OSError as e:
        raise Failure(f"{program} cannot be started: {e.strerror}", "check that it is the program for this system") from None
    except ValueError:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it printed nothing"]
        raise Failure(f"lipstream {' '.join(command)} failed: {lines[-1]}", f"check that {program} is a current version of Lipstream") from None


def _install(program: str, env: Dict[str, str], name: str, say: Say) -> None:
    log.info("lipstream: installing %s", name)
    say(f"installing {name}")
    child = subprocess.Popen([program, "runtime", "install", name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             env=env, encoding="utf-8", errors="replace", **no_window())
    lines: List[str] = []
    with child:
        for line in child.stderr or ():
            line = re.sub(r"\x1b\[[0-9;]*\w", "", line).strip()
            if line:
                lines.append(line)
                log.info("lipstream: %s", line)
                say(line)
    if child.returncode:
        hint = lines.pop()[len("hint:"):].strip() if len(lines) > 1 and lines[-1].startswith("hint:") else "check the connection"
        raise Failure(f"{name} could not be installed: {lines[-1] if lines else 'lipstream gave no reason'}", hint)
