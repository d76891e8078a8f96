#!/usr/bin/env python3
"""Runs openvino_graph.py on a chain of two graphs and compares with numpy."""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper


def write_graph(path, node, inputs, outputs, weight, location, offset):
    """One MatMul or Add with the external weight "w"."""
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=weight.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", weight.nbytes)):
        t.external_data.add(key=key, value=str(value))
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs], [t])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())


def main():
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openvino_graph.py")
    rng = np.random.default_rng(1)
    w1, w2 = (rng.standard_normal((64, 64), dtype=np.float32) for _ in range(2))
    with tempfile.TemporaryDirectory() as tmp:
        folder = os.path.join(tmp, "dump")
        os.mkdir(folder)
        outside = os.path.join(tmp, "checkpoint.pt")
        with open(outside, "wb") as f:
            f.write(b"x" * 128 + w1.tobytes())
        with open(os.path.join(folder, "w2.bin"), "wb") as f:
            f.write(b"x" * 64 + w2.tobytes())
        write_graph(os.path.join(folder, "a.onnx"), helper.make_node("MatMul", ["x", "w"], ["y"]),
                    [("x", [8, 64])], [("y", [8, 64])], w1, outside, 128)
        g = helper.make_node("Gemm", ["y", "w", "x2"], ["z"])
        write_graph(os.path.join(folder, "b.onnx"), g, [("y", [8, 64]), ("x2", [8, 64])], [("z", [8, 64])], w2,
                    "w2.bin", 64)
        with open(os.path.join(folder, "graph.json"), "w") as f:
            json.dump({"inputs": [{"name": "x", "shape": [8, 64], "dtype": "float32"},
                                  {"name": "x2", "shape": [8, 64], "dtype": "float32"}],
                       "graphs": [{"file": "a.onnx", "inputs": ["x"], "outputs": ["y"]},
                                  {"file": "b.onnx", "inputs": ["y", "x2"], "outputs": ["z"]}]}, f)
        i = 0.31 * np.arange(8 * 64).reshape(8, 64) + 0.2
        want = np.cos(i) @ w1 @ w2 + np.sin(i)
        for dtype, tolerance in (("f32", 1e-5), ("bf16", 2e-2)):
            out = os.path.join(tmp, "out.npz")
            line = subprocess.run([sys.executable, script, folder, "--dtype", dtype, "--save", out], check=True,
                                  stdout=subprocess.PIPE).stdout
            assert len(json.loads(line)["step_seconds"]) == 3, line
            diff = np.abs(np.load(out)["z"] - want).max() / np.abs(want).max()
            assert diff < tolerance, (dtype, diff)
            print(f"{dtype}: relative difference {diff:.1e}")
        os.truncate(outside, 1000)
        failed = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
        assert failed.returncode and "beyond the end" in failed.stderr, failed.stderr
    print("ok")


if __name__ == "__main__":
    main()
