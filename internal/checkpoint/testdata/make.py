"""Makes the small files of this folder with PyTorch 2.15 and safetensors 0.8.0.

tiny_whisper_fp16.pt is from the goldens; what PyTorch reads from it goes to
tiny_whisper_fp16.json (name -> type, shape, sha256 of the bytes).
"""
import hashlib, json, torch, safetensors.torch

torch.manual_seed(1)
m = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
w = torch.arange(12.0).reshape(3, 4)

d = torch.load("tiny_whisper_fp16.pt", weights_only=True)["model_state_dict"]
with open("tiny_whisper_fp16.json", "w") as f:
    json.dump({k: [str(v.dtype).removeprefix("torch."), list(v.shape),
                   hashlib.sha256(v.numpy().tobytes()).hexdigest()] for k, v in d.items()}, f, indent=0)

# Readable.
torch.save({"global_step": 5, "state_dict": m.state_dict(),
            "optimizer": torch.optim.Adam(m.parameters()).state_dict()}, "optimizer.pt")
for p in (3, 4, 5):
    torch.save({"global_step": 5, "state_dict": m.state_dict()}, f"protocol{p}.pt", pickle_protocol=p)
torch.save({"state_dict": {"a": w, "tied": w, "rows": w[1:], "p": torch.nn.Parameter(w[0])}}, "tied.pt")
safetensors.torch.save_file({"a": w, "h": w.half(), "i": torch.tensor([7]), "u": torch.tensor([1, 2, 3], dtype=torch.uint8),
                             "b": w.bfloat16()}, "small.safetensors", {"format": "pt"})
# Refused.
torch.save({"state_dict": {"a": w.t()}}, "transposed.pt")
torch.save({"state_dict": {"a": w, "flag": torch.tensor([True])}}, "bool.pt")
torch.save({"state_dict": {"a": w.double()}}, "double.pt")
torch.save({"state_dict": {"a": w}}, "old.pt", _use_new_zipfile_serialization=False)
torch.save(m, "module.pt")
torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), "script.pt")
