"""The settings of a job as inputs of nodes.

settings.json describes them in the form of GET /v1/options. It is generated from
Lipstream's own definitions. If a server is already running, its description is
used instead, because the server may have another version.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import Any, Collection, Dict, List, Optional, Tuple, Union

from . import service
from .client import Failure

WAIT = 0.3  # seconds that a server may take to answer
KEEP = 60.0  # seconds until it is asked again

Field = Dict[str, Any]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "settings.json"), encoding="utf-8") as _file:
    _builtin: List[Field] = json.load(_file)["settings"]

_lock = threading.Lock()
_asked = float("-inf")
_served: List[Field] = []


def fields() -> List[Field]:
    """Returns the settings: first those of settings.json, because workflows store the
    values of inputs by position, then those that only the server has."""
    global _asked
    with _lock:
        if time.monotonic() > _asked + KEEP:
            _asked = time.monotonic()
            # ComfyUI must not be blocked here, and resolving a name can take long.
            asking = threading.Thread(target=_ask, daemon=True)
            asking.start()
            asking.join(WAIT)
    served = {f["name"]: f for f in _served}
    return [served.pop(f["name"], f) for f in _builtin] + list(served.values())


def _ask() -> None:
    global _served
    with contextlib.suppress(Failure, KeyError, TypeError):
        answer = service.running().json("GET", "/v1/options", timeout=WAIT)["settings"]
        _served = [f for f in answer if isinstance(f["name"], str) and isinstance(f["help"], str) and isinstance(f["type"], str)]


def field(name: str) -> Field:
    return next(f for f in fields() if f["name"] == name)


def inputs(without: Collection[str]) -> Dict[str, Any]:
    """Returns the optional inputs for the settings, without the given names."""
    return {f["name"]: entry(f) for f in fields() if f["name"] not in without}


def entry(f: Field) -> Tuple[Union[str, List[str]], Dict[str, Any]]:
    """Returns the input for a setting. An input with its default value is not sent."""
    info: Dict[str, Any] = {"advanced": True} if f.get("advanced") else {}
    default = f.get("default", "")
    choices = f.get("choices") or _multiples(f)
    if choices:
        return (choices if default else ["", *choices]), {"default": default, "tooltip": tooltip(f, "Empty"), **info}
    number = _number(f)
    if number and "min" in f and "max" in f:
        unset = 0 if f["min"] > 0 else f["min"] - 1
        return {int: "INT", float: "FLOAT"}[number], {"default": number(unset), "min": number(unset), "max": number(f["max"]), "tooltip": tooltip(f, str(unset)), **info}
    return "STRING", {"default": default, "tooltip": tooltip(f, "Empty"), **info}


def tooltip(f: Field, unset: str) -> str:
    return f["help"] + (f" {unset}: {f['otherwise']}." if f.get("otherwise") else "")


def given(values: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the part of a job's specification that the values of inputs determine."""
    spec: Dict[str, Any] = {}
    for f in fields():
        value = values.get(f["name"])
        if isinstance(value, str):
            value = value.strip()
        if value not in (None, "", entry(f)[1]["default"]):
            number = _number(f)
            spec[f["name"]] = number(value) if number else value
    return spec


def _number(f: Field) -> Optional[type]:
    """Returns the type of a setting that must be a number. Times and sizes may be text."""
    return None if f.get("unit") in ("s", "bytes") else {"integer": int, "number": float}.get(f["type"])


def _multiples(f: Field) -> List[str]:
    """Returns the values of a setting that allows only multiples of a number."""
    if not f.get("multiple") or "min" not in f or "max" not in f:
        return []
    return [str(n) for n in range(int(f["min"]), int(f["max"]) + 1, int(f["multiple"]))]
