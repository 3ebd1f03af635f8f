"""Runs `pt2_check` over the cases that `pt2_export.py` made and prints a table.

    python pt2_cases.py --check target/fast/examples/pt2_check --cases DIR [--forms a,c,b] [--modes static,dynamic]
                        [--import-only] [--expect FILE] [PREFIX...]

Exit status 1 when a case fails that the expectation list does not name, or one passes that it does.
"""
import argparse
import os
import re
import subprocess
import sys
import time


def run(check, folder, form, import_only, timeout):
    command = [check, f"{folder}/{form}.pt2"]
    for k in range(8):
        if not import_only and os.path.exists(f"{folder}/in{k}.npz"):
            command += [f"{folder}/in{k}.npz", f"{folder}/out{k}.npz"]
    start = time.time()
    try:
        p = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        text, code = p.stdout + p.stderr[-500:], p.returncode
    except subprocess.TimeoutExpired:
        return "slow", f"over {timeout} s", 0
    worst = max([float(x) for x in re.findall(r"^ok .*: abs (\S+)", text, re.M)] or [0])
    took = re.search(r"^import (\S+) s, (\d+) nodes", text, re.M)
    note = f"abs {worst:.1e}  import {took[1]} s  {took[2]} nodes" if took else ""
    if code == 0:
        return "ok", note, time.time() - start
    lines = [l for l in text.splitlines() if l.startswith(("BAD", "error", "thread", "  "))]
    return ("error" if code == 2 else "BAD" if code == 1 else "PANIC"), " | ".join(lines)[:700], time.time() - start


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--check", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--forms", default="a,c,b")
    ap.add_argument("--modes", default="static,dynamic")
    ap.add_argument("--import-only", action="store_true")
    ap.add_argument("--timeout", type=float, default=300)
    ap.add_argument("--expect", help="lines `id mode form reason` of cases that fail")
    ap.add_argument("--quiet", action="store_true", help="print failures only")
    ap.add_argument("prefixes", nargs="*")
    a = ap.parse_args()
    expected = set()
    if a.expect:
        expected = {tuple(l.split()[:3]) for l in open(a.expect) if l.strip() and not l.startswith("#")}
    counts, surprises = {}, []
    folders = sorted(d for d, _, files in os.walk(a.cases) if "done" in files)
    for folder in folders:
        name, mode = os.path.relpath(folder, a.cases).rsplit("/", 1)
        if mode not in a.modes.split(",") or a.prefixes and not any(name.startswith(p) for p in a.prefixes):
            continue
        for form in a.forms.split(","):
            if not os.path.exists(f"{folder}/{form}.pt2"):
                continue
            verdict, note, seconds = run(a.check, folder, form, a.import_only, a.timeout)
            counts[verdict] = counts.get(verdict, 0) + 1
            if ((name, mode, form) in expected) != (verdict != "ok"):
                surprises.append((name, mode, form))
            if verdict != "ok" or not a.quiet:
                print(f"{verdict:5} {name} {mode} {form}  {seconds:.1f} s  {note}", flush=True)
    print(counts)
    sys.exit(1 if surprises else 0)


if __name__ == "__main__":
    main()
