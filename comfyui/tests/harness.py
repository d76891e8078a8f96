"""ComfyUI's side of the contract with nodes, without ComfyUI.

install() puts substitutes for comfy.utils, comfy.model_management,
folder_paths and server into sys.modules, load() imports the package as ComfyUI does, and
Executor checks and runs prompts in API format. tests/README.md lists the sources of
ComfyUI that this follows, and what is missing.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import threading
import time
import types
from typing import Any, Dict, List, Optional

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class InterruptProcessingException(Exception):
    """Replaces the exception of comfy.model_management."""


class PromptServer:
    """Replaces the server of a page that has sent a prompt. Executor sets last_node_id."""

    client_id, last_node_id = "page", None

    def __init__(self) -> None:
        self.texts: List[tuple] = []  # (node, line)

    def send_progress_text(self, text: Any, node_id: str, sid: Any = None) -> None:
        assert sid == self.client_id
        self.texts.append((node_id, text))


PromptServer.instance = PromptServer()


class Host:
    """Records the calls of the substitutes."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.progress: List[tuple] = []  # (value, total)
        self.previews: List[tuple] = []  # (format, picture, largest size)
        self.unloads: List[str] = []
        self.on_progress: Any = None
        self.texts = PromptServer.instance.texts
        for name in ("input", "output", "temp"):
            os.makedirs(os.path.join(base, name), exist_ok=True)


def install(base: str) -> Host:
    """Installs the substitutes, with their folders under base."""
    host = Host(base)
    comfy, utils, mm, paths, server = (types.ModuleType(n) for n in ("comfy", "comfy.utils", "comfy.model_management", "folder_paths", "server"))
    comfy.utils, comfy.model_management = utils, mm

    utils.PROGRESS_BAR_HOOK = None

    class ProgressBar:
        def __init__(self, total: int, node_id: Optional[str] = None) -> None:
            self.total, self.current, self.hook, self.node_id = total, 0, utils.PROGRESS_BAR_HOOK, node_id

        def update_absolute(self, value: int, total: Optional[int] = None, preview: Any = None) -> None:
            if total is not None:
                self.total = total
            self.current = value = min(value, self.total)
            if self.hook is not None:  # newer versions leave out most calls
                self.hook(self.current, self.total, preview, node_id=self.node_id)

        def update(self, value: int) -> None:
            self.update_absolute(self.current + value)

    utils.ProgressBar = ProgressBar

    lock, flag = threading.RLock(), [False]
    mm.InterruptProcessingException = InterruptProcessingException

    def interrupt_current_processing(value: bool = True) -> None:
        with lock:
            flag[0] = value

    def processing_interrupted() -> bool:
        with lock:
            return flag[0]

    def throw_exception_if_processing_interrupted() -> None:
        with lock:
            if flag[0]:
                flag[0] = False
                raise InterruptProcessingException()

    mm.interrupt_current_processing = interrupt_current_processing
    mm.processing_interrupted = processing_interrupted
    mm.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
    mm.unload_all_models = lambda: host.unloads.append("unload_all_models")
    mm.soft_empty_cache = lambda force=False: host.unloads.append("soft_empty_cache")

    def hook(value: int, total: int, preview: Any, prompt_id: Any = None, node_id: Any = None) -> None:
        throw_exception_if_processing_interrupted()  # like main.py's hook
        assert threading.current_thread() is host.thread, "progress from another thread has no node"
        host.progress.append((value, total))
        if preview is not None:
            kind, image, largest = preview
            image.thumbnail((largest, largest))  # like the server, before it sends the image
            host.previews.append((kind, image.size, largest))
        if host.on_progress:
            host.on_progress(value, total)

    utils.PROGRESS_BAR_HOOK = hook
    host.thread = threading.current_thread()

    server.PromptServer = PromptServer
    for name in ("input", "output", "temp"):
        setattr(paths, f"get_{name}_directory", lambda name=name: os.path.join(host.base, name))
    paths.base_path, paths.models_dir = base, os.path.join(base, "models")
    paths.folder_names_and_paths = {name: ([os.path.join(paths.models_dir, name)], set()) for name in ("checkpoints", "loras", "vae", "vae_approx")}
    paths.folder_names_and_paths["custom_nodes"] = ([os.path.join(base, "custom_nodes")], set())
    sys.modules.update({"comfy": comfy, "comfy.utils": utils, "comfy.model_management": mm, "folder_paths": paths, "server": server})
    return host


def load(path: str = PACKAGE) -> types.ModuleType:
    """Imports a package of custom nodes like nodes.load_custom_node."""
    name = path.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, os.path.join(path, "__init__.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (int, float))


def fits(received: Any, wanted: Any) -> bool:
    """Reports whether an output may be linked to an input, like validate_node_input without strict."""
    if not received != wanted:
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    a, b = ({t.strip() for t in s.split(",")} for s in (received, wanted))
    return bool(a & b)


class Invalid(Exception):
    """Raised for a prompt that ComfyUI would refuse, with the errors by node."""

    def __init__(self, errors: Dict[str, List[str]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


class Executor:
    """Checks and runs prompts, and keeps outputs in a cache between them."""

    def __init__(self, classes: Dict[str, type]) -> None:
        self.classes = classes
        self.cache: Dict[Any, list] = {}
        self.objects: Dict[Any, Any] = {}
        self.executed: List[str] = []  # ids of the nodes that the last prompt ran, in order
        self.ui: Dict[str, dict] = {}

    def _inputs(self, cls: type) -> Dict[str, tuple]:
        types_ = cls.INPUT_TYPES()
        return {name: (spec[0], spec[1] if len(spec) > 1 else {}, kind)
                for kind in ("required", "optional") for name, spec in types_.get(kind, {}).items()}

    def validate(self, prompt: Dict[str, dict]) -> None:
        errors: Dict[str, List[str]] = {}
        for ident, node in prompt.items():
            if node.get("class_type") not in self.classes:
                raise Invalid({ident: [f"missing_node_type: {node.get('class_type')}"]})
        outputs = [i for i, n in prompt.items() if getattr(self.classes[n["class_type"]], "OUTPUT_NODE", False)]
        if not outputs:
            raise Invalid({"": ["prompt_no_outputs"]})
        seen: set = set()
        for ident in outputs:
            self._check(prompt, ident, seen, (), errors)
        if errors:
            raise Invalid(errors)

    def _check(self, prompt: Dict[str, dict], ident: str, seen: set, above: tuple, errors: Dict[str, List[str]]) -> None:
        if ident in above:
            errors.setdefault(ident, []).append("dependency_cycle")
            return
        if ident in seen:
            return
        seen.add(ident)
        cls = self.classes[prompt[ident]["class_type"]]
        given = prompt[ident]["inputs"]
        validate = getattr(cls, "VALIDATE_INPUTS", None)
        spec = inspect.getfullargspec(validate) if validate else None
        own = spec.args if spec else []
        received: Dict[str, Any] = {}

        def bad(text: str) -> None:
            errors.setdefault(ident, []).append(text)

        for name, (kind, info, category) in self._inputs(cls).items():
            if name not in given:
                if category == "required":
                    bad(f"required_input_missing: {name}")
                continue
            value = given[name]
            if isinstance(value, list):
                if len(value) != 2:
                    bad(f"bad_linked_input: {name}")
                    continue
                source = self.classes[prompt[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                received[name] = source
                if "input_types" not in own and not fits(source, kind):
                    bad(f"return_type_mismatch: {name}, received_type({source}) mismatch input_type({kind})")
                    continue
                self._check(prompt, value[0], seen, above + (ident,), errors)
                continue
            try:
                convert = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}.get(kind if isinstance(kind, str) else "")
                if convert:
                    value = given[name] = convert(value)
            except (TypeError, ValueError):
                bad(f"invalid_input_type: {name}")
                continue
            if name in own or (spec and spec.varkw):
                continue
            if "min" in info and value < info["min"]:
                bad(f"value_smaller_than_min: {name}")
            elif "max" in info and value > info["max"]:
                bad(f"value_bigger_than_max: {name}")
            elif isinstance(kind, list) and value not in kind:
                bad(f"value_not_in_list: {name}")
        if spec and (len(own) > 0 or spec.varkw):
            known = self._inputs(cls)
            args = {n: None if is_link(v) else v for n, v in given.items() if n in known and (n in own or spec.varkw)}
            if "input_types" in own:
                args["input_types"] = received
            result = validate(**args)
            for name in args if result is not True else ():
                bad(f"custom_validation_failed: {name} - {result}")

    def _signature(self, prompt: Dict[str, dict], ident: str) -> Any:
        """Returns what an output depends on: classes, inputs and IS_CHANGED, also of the nodes linked before."""
        node = prompt[ident]
        cls = self.classes[node["class_type"]]
        known = self._inputs(cls)
        changed: Any = False
        if hasattr(cls, "IS_CHANGED"):
            constants = {n: None if is_link(v) else v for n, v in node["inputs"].items() if n in known}
            try:
                changed = cls.IS_CHANGED(**constants)
            except Exception:
                changed = float("nan")
        inputs = tuple(sorted((n, (self._signature(prompt, v[0]), v[1]) if is_link(v) else repr(v)) for n, v in node["inputs"].items()))
        if changed != changed:
            changed = time.monotonic_ns()  # NaN counts as changed every time
        return node["class_type"], changed, inputs

    def run(self, prompt: Dict[str, dict]) -> Dict[str, list]:
        """Returns the outputs of all nodes that were needed, by node id."""
        import torch
        import comfy.model_management as mm

        self.validate(prompt)
        mm.interrupt_current_processing(False)
        self.executed, results, kept = [], {}, {}

        def execute(ident: str) -> list:
            if ident in results:
                return results[ident]
            node = prompt[ident]
            cls = self.classes[node["class_type"]]
            known = self._inputs(cls)
            args = {}
            for name, value in node["inputs"].items():
                if is_link(value):
                    args[name] = execute(value[0])[value[1]]
                elif name in known:
                    args[name] = value
            signature = self._signature(prompt, ident)
            if signature in self.cache:
                results[ident] = kept[signature] = self.cache[signature]
                return results[ident]
            key = (ident, node["class_type"])
            if key not in self.objects:
                self.objects[key] = cls()
            obj = self.objects[key]
            mm.throw_exception_if_processing_interrupted()  # nodes.before_node_execution
            PromptServer.instance.last_node_id = ident
            value = getattr(obj, cls.FUNCTION)(**args)
            if isinstance(value, dict):
                self.ui[ident] = value.get("ui", {})
                value = value.get("result", ())
            if len(value) < len(cls.RETURN_TYPES):
                raise IndexError(f"{node['class_type']} gave {len(value)} outputs of {len(cls.RETURN_TYPES)}")
            self.executed.append(ident)
            results[ident] = kept[signature] = list(value)
            return results[ident]

        with torch.inference_mode():
            for ident, node in prompt.items():
                if getattr(self.classes[node["class_type"]], "OUTPUT_NODE", False):
                    execute(ident)
        self.cache = kept  # drops what this prompt does not use
        return results
