"""What the tests share: the package loaded as ComfyUI loads it, and waiting."""

import atexit
import importlib
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness

base = tempfile.TemporaryDirectory()
atexit.register(base.cleanup)
host = harness.install(base.name)
root = harness.load()


def package(name):
    return importlib.import_module("." + name, root.__name__)


def wait(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("waited too long")
        time.sleep(0.01)
