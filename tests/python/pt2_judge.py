"""What the drivers over many programs share: forked jobs with a time limit, and the judgement of one `.pt2`.

A case is a folder with `model.pt2` and `set<k>.pt`: a dict of `inputs` (flat tensors; numbers as 0-d ones, marked in
`number`) and `outputs` (flat, from eager PyTorch), and `note` (why the set must not be compared; empty when it must).
"""
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

RTOL, ATOL = 1e-3, 1e-4


def forked(job, seconds):
    """Runs `job()` in a forked process; its JSON result, or {"error": …} when it fails or takes longer."""
    sys.stdout.flush()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(r)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            result = job()
        except BaseException as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            result = {"error": f"{type(e).__name__}: {str(e)[:600]} ({os.path.basename(last.filename)}:{last.lineno})"}
        os.write(w, json.dumps(result).encode())
        os._exit(0)
    os.close(w)
    data, end = b"", time.time() + seconds
    while True:
        ready, _, _ = select.select([r], [], [], max(0, end - time.time()))
        if not ready:
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            os.waitpid(pid, 0)
            os.close(r)
            return {"error": f"longer than {seconds} s"}
        piece = os.read(r, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(r)
    os.waitpid(pid, 0)
    return json.loads(data) if data else {"error": "the process died"}


def warm_up():
    """Loads what every job needs, before the first fork."""
    import onnxruntime
    import torchvision

    class Tiny(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x.view(-1), x.sum(0)]).relu()

    program = torch.export.export(Tiny(), (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program.run_decompositions(), io.BytesIO())


def same(got, want, shapes_only=False):
    """"" when every output is within the tolerance of eager, else what is wrong with the first that is not.

    `shapes_only`: values do not matter; "first": those of the first output do; "kept" is for `each_set`."""
    if len(got) != len(want):
        return f"{len(got)} outputs for {len(want)}"
    values = {False: len(want), True: 0, "first": 1}[shapes_only]
    for k, (a, t) in enumerate(zip(got, want)):
        if t.is_complex():
            t = torch.view_as_real(t.resolve_conj())
        t = t.detach().resolve_neg()
        if tuple(a.shape) != tuple(t.shape):
            return f"output {k}: shape {tuple(a.shape)} for {tuple(t.shape)}"
        name = str(t.dtype).replace("torch.", "")
        if str(a.dtype) != name and not (name == "bfloat16" and a.dtype.kind != "i"):
            return f"output {k}: {a.dtype} for {name}"
        if k >= values or a.size == 0:
            continue
        half = t.dtype in (torch.float16, torch.bfloat16)
        if not t.is_floating_point():
            bad = a != t.numpy()
            if bad.any():
                return f"output {k}: {int(bad.sum())}/{bad.size} differ"
            continue
        a, b = np.asarray(a).astype(np.float64), t.to(torch.float64).numpy()
        with np.errstate(all="ignore"):
            equal = (a == b) | (np.isnan(a) & np.isnan(b))
            d = np.where(equal, 0.0, np.abs(a - b))
            bad = ~equal & ~(d <= (1e-2 if half else ATOL) + (1e-2 if half else RTOL) * np.abs(b))
            scale = np.abs(b[np.isfinite(b)]).max() if np.isfinite(b).any() else 0.0
        # Random deep nets have outputs near 0 beside outputs in the hundreds.
        if bad.any() and not (np.isfinite(d).all() and d.max() <= 1e-4 * scale):
            return f"output {k}: {int(bad.sum())}/{bad.size} off, largest {np.nanmax(d):.2e} of {scale:.2e}"
    return ""


def to_numpy(t):
    t = t.detach().resolve_conj().resolve_neg().contiguous()
    if t.dtype == torch.bfloat16:
        import ml_dtypes

        return t.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return t.numpy()


def to_proto(t):
    if t.dtype == torch.bfloat16:
        return helper.make_tensor("", TensorProto.BFLOAT16, t.shape, t.contiguous().view(torch.uint16).numpy().tobytes(), raw=True)
    return numpy_helper.from_array(np.ascontiguousarray(to_numpy(t)).reshape(tuple(t.shape)))


def run_onnxruntime(session, tensors):
    import onnxruntime as ort

    binding, keep = session.io_binding(), []
    for i, t in zip(session.get_inputs(), tensors):
        a = to_numpy(t)
        if t.dtype == torch.bfloat16:
            keep += [a, ort.OrtValue.ortvalue_from_numpy_with_onnx_type(a.view(np.uint16), TensorProto.BFLOAT16)]
        else:
            keep.append(ort.OrtValue.ortvalue_from_numpy(a))
        binding.bind_ortvalue_input(i.name, keep[-1])
    for o in session.get_outputs():
        binding.bind_output(o.name, "cpu")
    session.run_with_iobinding(binding)
    out = []
    for o, v in zip(session.get_outputs(), binding.get_outputs()):
        wide = "bfloat16" in o.type
        out.append(torch.utils.dlpack.from_dlpack(v._ortvalue.to_dlpack()).float().numpy() if wide else v.numpy())
    return out


def command(args, seconds):
    """(ok, output, seconds) of a command."""
    started = time.time()
    try:
        p = subprocess.run(args, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False, f"longer than {seconds} s", time.time() - started
    text = p.stdout if p.returncode == 0 else (p.stderr or p.stdout).strip().replace("\n", " | ")
    return p.returncode == 0, text, time.time() - started


def load_sets(folder):
    sets, k = [], 0
    while os.path.exists(f"{folder}/set{k}.pt"):
        sets.append(torch.load(f"{folder}/set{k}.pt", weights_only=False))
        k += 1
    return sets


def feed(s, count):
    """The inputs of a set for a graph of `count` inputs: numbers may be inputs or have been fixed."""
    tensors = [t for t, number in zip(s["inputs"], s["number"]) if not number]
    chosen = tensors if len(tensors) == count else s["inputs"]
    if len(chosen) != count:
        raise ValueError(f"{count} graph inputs, {len(tensors)} tensors given")
    # A complex input is taken as pairs.
    return [torch.view_as_real(t.resolve_conj()).contiguous() if t.is_complex() else t for t in chosen]


def each_set(sets, run, shapes_only):
    """`ok`, or what the first failing set shows. Sets that must not be compared are left out. `shapes_only="kept"`: of the values, as many
    as the first input has are compared, in the order of memory (`resize_` leaves the others open)."""
    done = 0
    for k, s in enumerate(sets):
        if s.get("note"):
            continue
        try:
            got, want = run(s), s["outputs"]
            problem = same(got, want, bool(shapes_only) if shapes_only == "kept" else shapes_only)
            if shapes_only == "kept" and not problem:
                n = s["inputs"][0].numel()
                problem = same([a.reshape(-1)[:n] for a in got], [t.reshape(-1)[:n] for t in want])
        except Exception as e:
            problem = f"{type(e).__name__}: {str(e)[:500]}"
        if problem:
            return f"set {k}: {problem}".replace("\n", " ").replace("\t", " ")
        done += 1
    return f"ok {done}"


def judge(oxrt, folder, shapes_only=False, seconds=300, engine=True, simplify=True, functions=None):
    """Every step for one case: export, checker, onnxruntime, the simplified file, the engine. `functions`: for custom operators."""
    row, sets = {}, load_sets(folder)
    tmp = tempfile.mkdtemp(prefix="pt2-judge-")
    try:
        import onnxruntime as ort

        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4

        def file(name, path):
            big = os.path.getsize(path) > 1 << 30
            try:
                onnx.checker.check_model(path if big else onnx.load(path), full_check=True)
                row[f"checker{name}"] = "ok"
            except Exception as e:
                row[f"checker{name}"] = str(e).replace("\n", " ")[:400]
            try:
                session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                row[f"ort{name}"] = each_set(sets, lambda s: run_onnxruntime(session, feed(s, len(session.get_inputs()))), shapes_only)
            except Exception as e:
                row[f"ort{name}"] = f"{type(e).__name__}: {e}".replace("\n", " ")[:500]

        ok, text, took = command([oxrt, "export", f"{folder}/model.pt2", "-o", f"{tmp}/m.onnx", "--json", *(["--functions", functions] if functions else [])], seconds)
        row["seconds"] = round(took, 3)
        row["export"] = "ok" if ok else text[:1500]
        if not ok:
            return row
        row["nodes"] = json.loads(text)["nodes"]
        file("", f"{tmp}/m.onnx")
        if simplify:
            ok, text, took = command([oxrt, "simplify", f"{tmp}/m.onnx", "-o", f"{tmp}/s.onnx", "--no-check"], seconds)
            row["simplify_seconds"] = round(took, 3)
            if ok:
                count = lambda g: sum(1 + sum(count(a.g) for a in n.attribute if a.HasField("g")) for n in g.node)
                row["simple_nodes"] = count(onnx.load(f"{tmp}/s.onnx", load_external_data=False).graph)
                file("_simple", f"{tmp}/s.onnx")
            else:
                row["ort_simple"] = text[:500]
        if engine:
            ok, text, took = command([oxrt, "build", f"{tmp}/m.onnx" if functions else f"{folder}/model.pt2", "-o", f"{tmp}/m.engine", "--threads", "1", "--no-tune"], seconds)
            row["build_seconds"] = round(took, 3)

            def run(s):
                given, got = f"{tmp}/in", f"{tmp}/out"
                for d in (given, got):
                    shutil.rmtree(d, ignore_errors=True)
                    os.makedirs(d)
                count = len(onnx.load(f"{tmp}/m.onnx", load_external_data=False).graph.input)
                for i, t in enumerate(feed(s, count)):
                    open(f"{given}/input_{i}.pb", "wb").write(to_proto(t).SerializeToString())
                ok, text, _ = command([oxrt, "run", f"{tmp}/m.engine", "--in-dir", given, "--out-dir", got, "--threads", "1"], seconds)
                if not ok:
                    raise RuntimeError(text)
                out = []
                for i in range(len(os.listdir(got))):
                    p = TensorProto()
                    p.ParseFromString(open(f"{got}/output_{i}.pb", "rb").read())
                    out.append(numpy_helper.to_array(p))
                return out

            row["engine"] = each_set(sets, run, shapes_only) if ok else "build: " + text[:500]
        return row
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def passed(row):
    """Whether every step that was made went well."""
    steps = [row.get(k, "ok") for k in ("export", "checker", "ort", "checker_simple", "ort_simple", "engine")]
    return "error" not in row and all(s.startswith("ok") for s in steps)
