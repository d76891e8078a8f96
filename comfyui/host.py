"""All code that uses ComfyUI: progress, preview, interrupt, memory, folders."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import re
import tempfile
import threading
from typing import Any, BinaryIO, Callable, List, Tuple

from .client import Failure

TOTAL = 1000  # steps of the progress bar

# The kinds of folders that can have checkpoints of ours.
MODELS = ("custom_nodes", "checkpoints", "diffusion_models", "diffusers", "vae", "vae_approx", "audio_encoders", "latentsync", "musetalk")


def check() -> None:
    """Raises ComfyUI's exception if the user pressed Cancel."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def supervise(work: Callable[[Callable[[Any], None]], Any], check: Callable[[], None],
              on_message: Callable[[Any], None] = lambda m: None, abort: Callable[[], None] = lambda: None) -> Any:
    """Runs work(say) in a thread and returns its result.

    Meanwhile, in the caller's thread, on_message is called with each argument of say,
    and check ten times a second. If one of the three raises an exception, abort is
    called and the exception is raised.
    """
    box: "queue.SimpleQueue[Tuple[str, Any]]" = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put(("result", work(lambda m: box.put(("message", m)))))
        except BaseException as e:  # raised below
            box.put(("error", e))

    threading.Thread(target=run, name="lipstream", daemon=True).start()
    try:
        while True:
            check()
            try:
                kind, value = box.get(timeout=0.1)
            except queue.Empty:
                continue
            if kind == "result":
                return value
            if kind == "error":
                raise value
            on_message(value)
    except BaseException:
        abort()
        raise


def unload_models() -> None:
    """Asks ComfyUI to unload its models from the GPU and to free their memory."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


class Progress:
    """ComfyUI's progress bar, which never goes back, and a line of text below it."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(TOTAL)
        self._value, self._text = -1, ""

    def show(self, share: float, text: str = "", jpeg: bytes = b"") -> None:
        """Shows a share (0 to 1), a line on the node and a JPEG; what is empty stays unchanged."""
        value, preview = max(self._value, min(TOTAL, int(share * TOTAL))), None
        if jpeg:
            from PIL import Image

            preview = ("JPEG", Image.open(io.BytesIO(jpeg)).convert("RGB"), 512)
        if preview or value > self._value:  # each update sends two messages to the page
            self._value = value
            self._bar.update_absolute(value, TOTAL, preview)
        if text and text != self._text:
            self._text = text
            write(text)


def write(text: str) -> None:
    """Shows text on the running node, in versions of ComfyUI that support it."""
    try:
        from server import PromptServer

        server = PromptServer.instance
        if server.client_id is not None:  # otherwise no page is open, and last_node_id is outdated
            server.send_progress_text(text, server.last_node_id, server.client_id)
    except (ImportError, AttributeError, TypeError):  # not part of ComfyUI's documented interface
        pass


def input_path(path: str) -> str:
    """Returns the path of a file named by the user: absolute, or in ComfyUI's input folder."""
    import folder_paths

    path = path.strip().strip('"')
    return path if os.path.isabs(path) else os.path.join(folder_paths.get_input_directory(), path)


def model_folders() -> List[str]:
    """Returns ComfyUI's folder, and the folders that it searches for models, also those of extra_model_paths.yaml."""
    try:
        import folder_paths
    except ImportError:  # the package was loaded without ComfyUI
        return []

    listed = [path for name in MODELS for path in folder_paths.folder_names_and_paths.get(name, ([],))[0]]
    base = getattr(folder_paths, "base_path", "")
    return list(dict.fromkeys(os.path.abspath(path) for path in [base, folder_paths.models_dir, *listed] if path))


def is_ours(path: str) -> bool:
    """Reports whether a file is in ComfyUI's input, output or temp folder, after links are followed."""
    import folder_paths

    path = os.path.realpath(path)
    folders = [os.path.realpath(f()) for f in (folder_paths.get_input_directory, folder_paths.get_output_directory, folder_paths.get_temp_directory)]
    return any(path.startswith(os.path.join(f, "")) for f in folders)


def safe_name(name: str) -> Tuple[str, str]:
    """Returns a name without folders and special characters, as stem and extension."""
    extensions = (".mp4", ".mov", ".mkv", ".webm")
    name = re.split(r"[/\\]", name.strip())[-1]
    stem, ext = os.path.splitext(name)
    if ext.lower() not in extensions:
        stem, ext = name, extensions[0]
    stem = re.sub(r"[^\w .()+-]", "_", stem).strip(" .")
    stem = stem.encode()[:200].decode(errors="ignore")  # file systems count bytes
    return stem or "lipstream", ext.lower()


class Output:
    """A new file in ComfyUI's output folder. It has a hidden name until `keep` is called."""

    def __init__(self, name: str) -> None:
        import folder_paths

        self.folder = folder_paths.get_output_directory()
        self._stem, self._ext = safe_name(name)
        try:
            os.makedirs(self.folder, exist_ok=True)
            fd, self._temp = tempfile.mkstemp(prefix=".lipstream-", suffix=".part", dir=self.folder)
        except OSError as e:
            raise Failure(f"{self.folder} cannot be written: {e.strerror}") from None
        self.file: BinaryIO = os.fdopen(fd, "w+b")

    def keep(self) -> str:
        """Renames the file to its final name, with the first number that is free."""
        try:
            self.file.close()
            number = 1
            while True:
                path = os.path.join(self.folder, f"{self._stem}_{number:05}{self._ext}")
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))  # reserves the name
                except FileExistsError:
                    number += 1
                    continue
                try:
                    os.chmod(self._temp, os.stat(path).st_mode & 0o777)  # mkstemp makes private files
                    os.replace(self._temp, path)
                except OSError:
                    os.remove(path)
                    raise
                return path
        except OSError as e:
            raise Failure(f"the result cannot be written to {self.folder}: {e.strerror}", "check that the disk has room") from None

    def close(self) -> None:
        """Removes the file unless it was kept."""
        with contextlib.suppress(OSError):  # the file is not needed any more
            self.file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._temp)
