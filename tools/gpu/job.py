#!/usr/bin/env python3
"""Run a job and record what it does to the card.

    job.py RESULT.json [--estimate] [--device cuda:0] [--hog COMMAND --after N] -- lipstream run ...

--estimate first makes the same dry run. --hog starts a command when N frames are done, and stops it at the end.
The result has the report of the job, readings of the card's memory and load (of the job's own memory without
nvidia-smi), and when frames were done.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
import time


class Card:
    """Reads the memory in use and the load of a card every 200 ms with nvidia-smi."""

    def __init__(self, device):
        self.readings = []  # (time, bytes, percent)
        self.first = threading.Event()
        kind, _, number = device.partition(":")
        self.process = None
        if kind != "cuda":
            return
        try:
            self.process = subprocess.Popen(
                ["nvidia-smi", "-i", number or "0", "--query-gpu=memory.used,utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"],
                stdout=subprocess.PIPE, text=True)
        except OSError as e:
            print("no readings of the card:", e)
            return
        threading.Thread(target=self.read, daemon=True).start()
        self.first.wait(5)

    def read(self):
        for line in self.process.stdout:
            try:
                used, load = (float(v) for v in line.split(","))
            except ValueError:
                continue
            self.readings.append((time.time(), int(used * 2**20), load))
            self.first.set()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


def dry_run(command):
    out = subprocess.run([*command, "--dry-run", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        return json.loads(out.stdout)
    except ValueError:
        return {"error": f"rc {out.returncode}: {out.stdout[-500:]}"}


def run(command, card, args):
    """Runs the job and returns what its events say."""
    result = {"marks": [], "notes": [], "hog_at": None}
    job = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    # It loads PyTorch now and takes the memory when it reads a line.
    hog = subprocess.Popen(shlex.split(args.hog), stdin=subprocess.PIPE) if args.hog else None
    for line in job.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end="")
            continue
        now = time.time()
        if card.process is None:
            card.readings.append((now, event["memory_now"], 0))
        if event["frame"] > (result["marks"][-1][1] if result["marks"] else 0):
            result["marks"].append((now, event["frame"]))
        if event["type"] in ("warning", "alert", "plan", "error"):
            print(event["type"], event.get("message"))
            result["notes"].append({"at": now, "kind": event["type"], "message": event.get("message")})
        if hog and result["hog_at"] is None and event["frame"] >= args.after:
            result["hog_at"] = now
            hog.stdin.write(b"now\n")
            hog.stdin.flush()
    result["rc"] = job.wait()
    if hog:
        hog.terminate()
        result["hog_rc"] = hog.wait()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--hog")
    parser.add_argument("--after", type=int, default=1)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    estimate = dry_run(args.command) if args.estimate else None
    card = Card(args.device)
    before = card.readings[-1][1] if card.readings else 0
    report = args.result.removesuffix(".json") + "-report.json"
    began = time.time()
    try:
        result = run([*args.command, "--report", report], card, args)
    finally:
        card.stop()
    result.update(seconds=time.time() - began, began=began, before=before, estimate=estimate, readings=card.readings,
                  peak=max((r[1] for r in card.readings), default=0), command=args.command)
    try:
        with open(report) as f:
            result["report"] = json.load(f)
        os.remove(report)
    except (OSError, ValueError) as e:
        print("no report:", e)
    with open(args.result, "w") as f:
        json.dump(result, f)
    print(f"rc {result['rc']}, {result['seconds']:.1f} s, peak {result['peak'] / 2**20:.0f} MiB")
    sys.exit(result["rc"])


main()
