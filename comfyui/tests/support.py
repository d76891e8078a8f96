"""Helpers for the tests: the package as ComfyUI loads it, waiting, a clock, a silent file."""

import atexit
import importlib
import os
import sys
import tempfile
import time
import wave

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness

base = tempfile.TemporaryDirectory()
atexit.register(base.cleanup)
host = harness.install(base.name)
root = harness.load()


def package(name):
    return importlib.import_module("." + name, root.__name__)


def wait(condition):
    """Polls until condition() is true, however long that takes."""
    while not condition():
        time.sleep(0.01)


def silence(path):
    """Writes 2 s of silence."""
    with wave.open(path, "wb") as f:
        f.setparams((1, 2, 16000, 0, "NONE", ""))
        f.writeframes(bytes(64000))


class Clock:
    """Replaces the module time in a module that measures time."""

    sleep = staticmethod(time.sleep)

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now
