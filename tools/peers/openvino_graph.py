#!/usr/bin/env python3
"""Times a chain of ONNX graphs in OpenVINO's own Python API.

The graphs are those of `go run ./tools/bench unet --dump DIR`. DIR/graph.json:

    {"inputs": [{"name": "sample", "shape": [2, 13, 16, 32, 32], "dtype": "float32"}, ...],
     "graphs": [{"file": "down0.onnx", "inputs": ["sample", ...], "outputs": ["s0", ...]}, ...]}

Graphs run in this order. A name in "inputs" is a top-level input or an output
of an earlier graph, and is also the name of the tensor in the ONNX file.
External data may be in any file, also outside DIR (for example in a checkpoint).
"""

import argparse
import json
import os
import sys

import numpy as np
import onnx
import openvino as ov

from measure import measure

# With this location, OpenVINO's ONNX frontend reads "offset" as an address in this
# process. It cannot read files outside the model's folder, where the weights usually
# are (in the checkpoint), so the files are mapped here.
MEMORY = "*/_ORT_MEM_ADDR_/*"

DTYPES = {"f32": np.float32, "float32": np.float32, "f16": np.float16, "float16": np.float16,
          "i32": np.int32, "int32": np.int32, "i64": np.int64, "int64": np.int64}


def fail(message):
    sys.exit(f"openvino_graph.py: {message}")


def formula(spec, k):
    """Input k: cos(0.31 i + 0.2) for even k, sin(0.31 i + 0.2) for odd k, i the element; integers are 1."""
    if spec["dtype"] not in DTYPES:
        fail(f"input {spec['name']}: dtype {spec['dtype']} is none of {', '.join(DTYPES)}")
    dtype = DTYPES[spec["dtype"]]
    if np.issubdtype(dtype, np.integer):
        return np.ones(spec["shape"], dtype)
    i = np.arange(np.prod(spec["shape"], dtype=np.int64), dtype=np.float64)
    return (np.sin if k % 2 else np.cos)(0.31 * i + 0.2).reshape(spec["shape"]).astype(dtype)


class Weights:
    """The mapped files of external data, which must outlive the compiled graphs."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}

    def place(self, tensor):
        """Points a tensor's external data into the mapped file."""
        entries = {e.key: e.value for e in tensor.external_data}
        path = os.path.join(self.folder, entries["location"])
        if path not in self.files:
            self.files[path] = np.memmap(path, np.uint8, "r")
        data = self.files[path]
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", len(data) - offset))
        if offset + length > len(data):
            fail(f"{tensor.name}: bytes {offset} to {offset + length} are beyond the end of {path}")
        del tensor.external_data[:]
        for key, value in (("location", MEMORY), ("offset", data.ctypes.data + offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))

    def read(self, core, file):
        model = onnx.load(os.path.join(self.folder, file), load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                self.place(tensor)
        return core.read_model(model.SerializeToString())


def load(folder, precision, threads, runs):
    """Compiles all graphs and returns a function that runs one step and returns all tensors of its last run by name."""
    with open(os.path.join(folder, "graph.json")) as f:
        chain = json.load(f)
    core, weights = ov.Core(), Weights(folder)
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1",
              "INFERENCE_NUM_THREADS": threads}
    start = {s["name"]: ov.Tensor(formula(s, k)) for k, s in enumerate(chain["inputs"])}
    known, requests = set(start), []
    for graph in chain["graphs"]:
        compiled = core.compile_model(weights.read(core, graph["file"]), "CPU", config)
        for port, names in ((compiled.inputs, graph["inputs"]), (compiled.outputs, graph["outputs"])):
            have = set().union(*(p.names for p in port))
            if not set(names) <= have or len(names) != len(port):
                fail(f"{graph['file']}: graph.json names {sorted(names)}, the file has {sorted(have)}")
        if not set(graph["inputs"]) <= known:
            fail(f"{graph['file']}: nothing before it gives {sorted(set(graph['inputs']) - known)}")
        known |= set(graph["outputs"])
        requests.append((graph, compiled.create_infer_request()))

    def step():
        for _ in range(runs):
            tensors = dict(start)
            for graph, request in requests:
                for name in graph["inputs"]:
                    request.set_tensor(name, tensors[name])  # shared, not copied
                request.infer()
                tensors.update({name: request.get_tensor(name) for name in graph["outputs"]})
        return tensors

    step.weights = weights
    step.last = chain["graphs"][-1]["outputs"]
    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1, help="runs of the chain per step: 2 for guidance with graphs of batch 1")
    parser.add_argument("--save", metavar="FILE.npz", help="write the outputs of the last graph to this file")
    args = parser.parse_args()
    result = {}

    def prepare():
        step = load(args.dir, args.dtype, args.threads, args.runs)

        def run():
            tensors = step()
            result.update({name: tensors[name].data for name in step.last})

        return run

    measure(prepare, args.steps, peer="openvino", version=ov.__version__, dtype=args.dtype, threads=args.threads,
            runs=args.runs)
    for name, value in result.items():
        if not np.isfinite(value).all():
            fail(f"output {name} has values that are not finite")
    if args.save:
        np.savez(args.save, **result)


if __name__ == "__main__":
    main()
