#!/usr/bin/env python3
"""Compare the results of the steps with the goals.

    summary.py FOLDER

FOLDER has the results of a.sh, b.sh and c.sh in a, b and c, as far as they have run. It gets goals.json, and
docs/gpu/CARD-DATE-COMMIT.md. The standard library suffices.
"""

import csv
import datetime
import json
import pathlib
import re
import statistics
import sys

MIB = 2**20


def read(path):
    """The JSON of a file, or None if there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def text(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def tests(log):
    """How many tests of a log passed, failed and were skipped, in f32 and in f16."""
    counts = {"f32": [0, 0, 0], "f16": [0, 0, 0]}
    for how, name in re.findall(r"^ *--- (PASS|FAIL|SKIP): (\S+)", log, re.M):
        counts["f16" if "_f16" in name else "f32"]["PASS FAIL SKIP".split().index(how)] += 1
    return counts


class Summary:
    def __init__(self, folder):
        self.folder, self.goals, self.tables = folder, [], []

    def goal(self, name, limit, value, passed):
        """Notes a goal; value None is one that was not measured."""
        self.goals.append({"goal": name, "limit": limit, "measured": value,
                           "result": "not measured" if value is None else "passed" if passed else "FAILED"})

    def table(self, title, head, rows):
        if rows:
            self.tables.append((title, head, rows))

    def exact(self):
        logs = [text(self.folder / "b" / f"{name}.log") for name in ("conformance", "network", "neural")]
        both = [tests(log) for log in logs]
        for p, what in (("f32", "golden tests in f32, TF32 off, within their limits"), ("f16", "golden tests in f16, at least 40 dB")):
            passed, failed, skipped = (sum(c[p][i] for c in both[1:]) for i in range(3))
            value = f"{passed} passed, {failed} failed, {skipped} skipped" if passed + failed else None
            self.goal(what, "no failure", value, not failed and all("PASS" in log.splitlines()[-1:] for log in logs[1:]))
        passed, failed, skipped = (both[0]["f32"][i] + both[0]["f16"][i] for i in range(3))
        self.goal("conformance suite of the backend", "no failure",
                  f"{passed} passed, {failed} failed, {skipped} skipped" if passed + failed else None, not failed and "PASS" in logs[0].splitlines()[-1:])
        rows = {}
        for line in text(self.folder / "b" / "exactness.jsonl").splitlines():
            m = json.loads(line)
            less = m["measure"].startswith("PSNR")
            key = (m["module"], m.get("precision", ""), m["measure"])
            if key not in rows or (m["value"] < rows[key]["value"]) == less:
                rows[key] = m
        self.table("Worst of each module", ["module", "precision", "measure", "measured", "limit"],
                   [[*k, f"{m['value']:.3g}", f"{m['limit']:.3g}"] for k, m in sorted(rows.items())])

    def speed(self):
        rows, copies = [], None
        latents = sorted({int(m[1]) for f in self.folder.glob("b/*.*") if (m := re.match(r"(?:unet|eager|compiled)-(\d+)", f.name))})
        for latent in latents or [32, 64]:
            peers, own = {}, {}
            for batch in (1, 2):
                r = read(self.folder / "b" / f"unet-{latent}-{batch}.json")
                if not r:
                    continue
                own[batch] = r["results"][0]
                rows.append([latent, f"Lipstream, batch {batch}", r["precision"], own[batch]["median_step_seconds"] * 1000,
                             own[batch].get("median_cheap_step_seconds", 0) * 1000, own[batch]["load_seconds"]])
                if nodes := r.get("nodes"):
                    copies = copies or {"memcpy": 0, "cpu": 0, "cast": 0, "all": 0}
                    for k in copies:
                        copies[k] = max(copies[k], nodes[k])
            for mode in ("eager", "compiled"):
                lines = [line for line in text(self.folder / "b" / f"{mode}-{latent}.log").splitlines() if line.startswith("{")]
                if lines:
                    peers[mode] = json.loads(lines[-1])
                    rows.append([latent, f"PyTorch {peers[mode]['version']}, {mode}", peers[mode]["dtype"],
                                 peers[mode]["median_step_seconds"] * 1000, 0, peers[mode]["load_seconds"]])
            for mode, limit in (("compiled", 1.0), ("eager", 0.9)):
                ratio = own[2]["median_step_seconds"] / peers[mode]["median_step_seconds"] if 2 in own and mode in peers else None
                self.goal(f"step at {latent} latents relative to PyTorch {mode}", f"at most {limit} x",
                          None if ratio is None else f"{ratio:.2f} x", ratio is not None and ratio <= limit)
        self.goal("copies to or from the host inside the graphs", "none", copies and f"{copies['memcpy']} of {copies['all']} nodes", copies and not copies["memcpy"])
        if copies:
            self.table("Nodes of the UNet", ["nodes", "casts", "on the CPU"], [[copies["all"], copies["cast"], copies["cpu"]]])
        self.table("A step with guidance, 2 windows", ["latents", "", "precision", "step, ms", "cheap step, ms", "load, s"],
                   [[*r[:3], f"{r[3]:.2f}", f"{r[4]:.2f}" if r[4] else "", f"{r[5]:.1f}"] for r in rows])

    def jobs(self):
        jobs = {f.stem: job for f in sorted(self.folder.glob("c/*.json")) if (job := read(f)) and "readings" in job}
        rows = []
        for name, j in jobs.items():
            report, taken = j.get("report", {}), j["peak"] - j["before"]
            frames = next((p["seconds"] for p in report.get("phases", []) if p["name"] == "frames"), 0)
            j["rate"] = report.get("frames", 0) / frames if frames else 0
            needs = (j.get("estimate") or {}).get("needs", 0)
            j["off"] = taken / needs - 1 if needs else None
            rows.append([name, j["rc"], f"{j['seconds']:.1f}", f"{j['rate']:.2f}", f"{report.get('seconds_per_window', 0):.2f}",
                         f"{100 * report.get('device_busy', 0):.1f} %", f"{taken / MIB:.0f}", f"{needs / MIB:.0f}" if needs else "",
                         f"{100 * j['off']:+.0f} %" if needs else ""])
        self.table("Jobs", ["job", "exit code", "s", "frames/s", "s per window", "busy", "peak, MiB", "estimate, MiB", "off"], rows)
        large, small = jobs.get("large"), jobs.get("small")
        rate = lambda j: f"{j['rate']:.1f} frames/s" if j and j["rate"] else None
        self.goal("512 pixels, 20 steps", "more than 5.7 frames/s", rate(large), large and large["rate"] > 5.7)
        self.goal("256 pixels, 10 steps, DeepCache 3", "at least 25 frames/s", rate(small), small and small["rate"] >= 25)
        busy = large and large.get("report", {}).get("device_busy")
        self.goal("device busy", "at least 95 %", f"{100 * busy:.1f} %" if busy else None, busy and busy >= 0.95)
        for name, j in jobs.items():
            if j["off"] is not None:
                value = f"{100 * j['off']:+.0f} %" if j["rc"] == 0 else f"exit code {j['rc']}"
                self.goal(f"{name}: peak of the card beside the estimate", "within 15 %", value, j["rc"] == 0 and abs(j["off"]) <= 0.15)
        self.flat(jobs.get("windows"))
        hog = jobs.get("hog")
        plans = [n["message"] for n in hog["notes"] if n["kind"] == "plan" and hog["hog_at"] and n["at"] > hog["hog_at"]] if hog else []
        self.goal("another program fills the card: the job changes its plan and finishes", "",
                  hog and f"exit code {hog['rc']}, {len(plans)} changes of the plan", hog and hog["rc"] == 0 and plans)
        self.table("Changes of the plan while another program held the card", ["message"], [[p] for p in plans])
        self.monitor(jobs)

    def flat(self, job):
        """Memory of the card after each window, from the fifth on."""
        report = job and job.get("report") or {}
        windows, frames = report.get("windows", 0), report.get("frames", 0)
        value, passed = None, False
        if windows and frames:
            each, rows = frames / windows, []
            for k in range(1, int(windows) + 1):
                at = next((t for t, frame in job["marks"] if frame >= k * each - 0.5), None)
                used = [u for t, u, _ in job["readings"] if at and t <= at]
                if used:
                    rows.append((k, used[-1]))
            late = [r for r in rows if r[0] > 5] if windows > 6 else rows
            if len(late) > 1:
                slope = statistics.linear_regression(*zip(*late)).slope
                value, passed = f"{slope / 1e6:+.3f} MB a window, {int(windows)} windows", slope < 1e6
            self.table("Memory in use after windows, MiB", ["window", "MiB"], [[k, f"{u / MIB:.0f}"] for k, u in rows if k <= 6 or k % 10 == 0])
        self.goal("memory after the fifth window", "grows by less than 1 MB a window", value, passed)

    def monitor(self, jobs):
        """lipstream monitor beside nvidia-smi."""
        differences = []
        try:
            with open(self.folder / "c" / "monitor.csv") as f:
                lines = [r for r in csv.DictReader(f) if r["source"].startswith("nvidia:")]
        except OSError:
            lines = []
        readings = [r for j in jobs.values() for r in j["readings"]]
        for line in lines:
            at = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
            near = min(readings, key=lambda r: abs(r[0] - at), default=None)
            if near and abs(near[0] - at) < 0.3 and near[1]:
                differences.append(abs(float(line["used_bytes"]) / near[1] - 1))
        median = statistics.median(differences) if differences else None
        self.goal("lipstream monitor beside nvidia-smi, memory in use", "within 5 %",
                  None if median is None else f"{100 * median:.1f} %, median of {len(differences)}", median is not None and median <= 0.05)

    def parts(self):
        rows = []
        for step in "abc":
            for line in text(self.folder / step / "parts.jsonl").splitlines():
                p = json.loads(line)
                rows.append([step, p["part"], p["rc"], f"{p['seconds']:.1f}"])
        self.table("Parts that were run", ["step", "part", "exit code", "s"], rows)

    def write(self):
        card = text(self.folder / "a" / "card.log").strip().split(",")
        name, driver = (card[0].strip(), card[1].strip()) if len(card) > 1 else ("no card", "none")
        commits = {s: c for s in "abc" if (c := text(self.folder / s / "commit").strip())}
        commit, day = next(iter(commits.values()), "unknown"), datetime.date.today().isoformat()
        result = {"card": name, "driver": driver, "date": day, "commits": commits, "goals": self.goals}
        (self.folder / "goals.json").write_text(json.dumps(result, indent=1) + "\n")
        settings = "; ".join(sorted({s for c in commits if (s := text(self.folder / c / "settings").strip())}))
        lines = [f"# {name}, {day}, {commit}", "",
                 f"Driver {driver}; {settings}. Steps that were run: {', '.join(commits) or 'none'}. [README.md](README.md) says how.", ""]
        tables = [("Goals", ["goal", "limit", "measured", "result"], [[g["goal"], g["limit"], g["measured"] or "", g["result"]] for g in self.goals])]
        for title, head, rows in tables + self.tables:
            lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
            lines += ["| " + " | ".join(str(c).replace("|", "/") for c in row) + " |" for row in rows] + [""]
        out = self.folder / "docs" / "gpu"
        out.mkdir(parents=True, exist_ok=True)
        for old in out.glob("*.md"):
            old.unlink()
        path = out / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + f"-{day}-{commit}.md")
        path.write_text("\n".join(lines).rstrip() + "\n")
        for g in self.goals:
            print(f"{g['result']:13} {g['goal']}: {g['measured'] or '-'} ({g['limit']})")
        print("summary:", path)


def main():
    s = Summary(pathlib.Path(sys.argv[1]))
    for section in (s.exact, s.speed, s.jobs, s.parts):
        try:
            section()
        except Exception as e:  # one broken result must not hide the others
            print(f"{section.__name__}: {type(e).__name__}: {e}")
    s.write()


main()
