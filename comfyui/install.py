"""Downloads the program of the release. ComfyUI-Manager runs this file when it installs the nodes; without it,
the nodes download the program when they first need it."""

import importlib
import logging
import os
import sys
import types

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # A package without __init__.py, which would need ComfyUI.
    package = types.ModuleType("comfyui_lipstream")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules[package.__name__] = package
    program = importlib.import_module("comfyui_lipstream.program")
    try:
        print("lipstream:", program.find())
    except program.Failure as e:
        print(f"lipstream: {e}\nThe nodes will try again when they first need it.")
