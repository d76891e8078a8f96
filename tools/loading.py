#!/usr/bin/env python3
"""Measures how long a job loads its networks, also on a busy machine.

usage: tools/loading.py bin/lipstream run --json ...

Runs a job until its phase `listen` and ends it. Prints the time elapsed in the phase `load`, the
time that its threads ran and that they waited for a processor (schedstat of Linux), and an
estimate of the time elapsed if they had not waited: an average of `parallel` threads were running
or waiting, so as long as that is no more than the processors, the time they ran divided by it.
Threads that have ended do not count.
"""
import json
import os
import signal
import subprocess
import sys
import time


def threads(pid):
    """Returns the seconds that the threads of a process ran and waited."""
    ran = waited = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                r, w, _ = f.read().split()
        except OSError:
            continue  # the thread has ended
        ran, waited = ran + int(r) / 1e9, waited + int(w) / 1e9
    return ran, waited


job = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
began = None
for line in job.stdout:
    event = json.loads(line)
    if event.get("type") != "phase":
        continue
    now = (time.monotonic(), *threads(job.pid))
    if event["phase"] == "load":
        began = now
    elif began:
        elapsed, ran, waited = (b - a for a, b in zip(began, now))
        parallel = (ran + waited) / elapsed
        print(f"load: {elapsed:.1f} s elapsed, {ran:.1f} s running, {waited:.1f} s waiting, "
              f"parallel {parallel:.2f}, {ran / parallel:.1f} s if none had waited")
        job.send_signal(signal.SIGINT)
        break
job.stdout.read()
if job.wait() and not began:
    sys.exit("the job did not load its networks")
