"""Exports the cases of `pt2_export.py` to ONNX with `oxrt export` and compares onnxruntime with eager PyTorch.

    python pt2_onnxruntime.py --oxrt target/fast/oxrt --cases DIR [--forms a] [--modes dynamic] [--opset N] [PREFIX...]
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort


def load(path):
    z = np.load(path)
    return [z[k] for k in sorted(z.files, key=lambda k: int(k.split(":")[0]))], any(":" in k for k in z.files)


def compare(got, want):
    worst = 0.0
    if len(got) != len(want):
        return f"{len(got)} outputs for {len(want)}", 0
    for k, (a, b) in enumerate(zip(got, want)):
        if a.shape != b.shape:
            return f"output {k}: shape {a.shape} for {b.shape}", 0
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.size == 0:
            continue
        with np.errstate(all="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            d = np.where(same, 0.0, np.abs(a - b))
        scale = np.abs(b[np.isfinite(b)]).max() if np.isfinite(b).any() else 0.0
        bad = ~(d <= 1e-4 + 1e-3 * np.abs(b)) & ~(d <= 1e-4 * scale) & ~same
        if bad.any():
            return f"output {k}: {int(bad.sum())}/{a.size} off, largest {np.nanmax(d):.2e} of {scale:.2e}", 0
        worst = max(worst, float(np.nanmax(d)))
    return "", worst


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--forms", default="a")
    ap.add_argument("--modes", default="dynamic")
    ap.add_argument("--opset")
    ap.add_argument("--quiet", action="store_true")
    ap.add_argument("prefixes", nargs="*")
    a = ap.parse_args()
    ort.set_default_logger_severity(4)
    counts = {}
    for folder in sorted(d for d, _, files in os.walk(a.cases) if "done" in files):
        name, mode = os.path.relpath(folder, a.cases).rsplit("/", 1)
        if mode not in a.modes.split(",") or a.prefixes and not any(name.startswith(p) for p in a.prefixes):
            continue
        for form in a.forms.split(","):
            if not os.path.exists(f"{folder}/{form}.pt2"):
                continue
            note, verdict, worst = "", "ok", 0.0
            with tempfile.TemporaryDirectory() as tmp:
                command = [a.oxrt, "export", f"{folder}/{form}.pt2", "-o", f"{tmp}/m.onnx"] + (["--opset", a.opset] if a.opset else [])
                p = subprocess.run(command, capture_output=True, text=True)
                if p.returncode:
                    verdict, note = "export", p.stderr.strip().replace("\n", " | ")[:400]
                else:
                    try:
                        options = ort.SessionOptions()
                        options.intra_op_num_threads, options.log_severity_level = 1, 4
                        s = ort.InferenceSession(f"{tmp}/m.onnx", options, providers=["CPUExecutionProvider"])
                        for k in range(8):
                            if not os.path.exists(f"{folder}/in{k}.npz"):
                                break
                            (xs, narrow), (ys, also) = load(f"{folder}/in{k}.npz"), load(f"{folder}/out{k}.npz")
                            if narrow or also:
                                note = "bfloat16, not compared"
                                break
                            names = s.get_inputs()
                            if len(xs) > len(names):
                                xs = [x for x in xs if x.ndim]
                            problem, d = compare(s.run(None, {i.name: x for i, x in zip(names, xs)}), ys)
                            worst = max(worst, d)
                            if problem:
                                verdict, note = "BAD", f"set {k}: {problem}"
                    except Exception as e:
                        verdict, note = "ORT", f"{type(e).__name__}: {e}"[:400].replace("\n", " ")
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict != "ok" or not a.quiet:
                print(f"{verdict:6} {name} {mode} {form} abs {worst:.1e} {note}", flush=True)
    print(counts)
    sys.exit(any(k != "ok" for k in counts))


if __name__ == "__main__":
    main()
