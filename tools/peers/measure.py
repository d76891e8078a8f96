"""Measures time and memory for the peers, and prints the results."""

import json
import statistics
import sys
import threading
import time


def memory_status(field):
    """A memory figure of this process in bytes, by its name in /proc/self/status.

    VmHWM is the peak of resident memory. getrusage gives it too, but keeps
    the parent's peak across exec; this one starts afresh.
    """
    with open("/proc/self/status") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
    raise KeyError(field)


class AnonymousPeak:
    """Samples RssAnon every 50 ms while it runs; the kernel does not record its peak."""

    def __enter__(self):
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self):
        while True:
            self.peak = max(self.peak, memory_status("RssAnon"))
            if self._stop.wait(0.05):
                return

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def measured(load, steps, **settings):
    """Loads, runs one step to warm up and `steps` timed ones, and returns the settings with the results.

    load() prepares everything and returns a function that runs one step.
    """
    with AnonymousPeak() as anonymous:
        start = time.perf_counter()
        step = load()
        load_seconds = time.perf_counter() - start
        seconds = []
        for _ in range(1 + steps):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        at_end = memory_status("RssAnon")
    return {
        **settings,
        "load_seconds": round(load_seconds, 3),
        "warmup_seconds": round(seconds[0], 6),
        "step_seconds": [round(s, 6) for s in seconds[1:]],
        "median_step_seconds": round(statistics.median(seconds[1:]), 6),
        "peak_rss_bytes": memory_status("VmHWM"),
        "rss_anon_bytes": at_end,
        "peak_rss_anon_bytes": max(anonymous.peak, at_end),
    }


def measure(load, steps, **settings):
    """Like measured, but prints the result as one line of JSON."""
    print(json.dumps(measured(load, steps, **settings)))


def stepped(load, **settings):
    """Loads, then runs a step for each line of the standard input, so that steps of several programs can alternate.

    load() returns a function that runs one step and returns its results. Each line of the output is JSON: the settings
    and the time of loading, the results of each step, and at the end the memory.
    """

    def say(**result):
        print(json.dumps(result), flush=True)

    with AnonymousPeak() as anonymous:
        start = time.perf_counter()
        step = load()
        say(**settings, load_seconds=round(time.perf_counter() - start, 3))
        for _ in sys.stdin:
            say(**step())
        at_end = memory_status("RssAnon")
    say(peak_rss_bytes=memory_status("VmHWM"), rss_anon_bytes=at_end, peak_rss_anon_bytes=max(anonymous.peak, at_end))
