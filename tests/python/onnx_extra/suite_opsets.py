"""Every version of every operator: the official node cases said in the words of each older version.

A case is taken over to an older version of its operator when that version takes its types and attributes; an input that
was an attribute then becomes one. The judge is onnxruntime, or onnx's reference evaluator where onnxruntime has no such
version. `coverage()` says which (operator, version) pairs no case could be made for; FORMS holds those by hand.
"""
import collections

import numpy as np
import onnx
from core import run_ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

NEWEST = onnx.defs.onnx_opset_version()
# Random results, and cases of training that nobody else runs.
LEFT_OUT = {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Gradient", "Adam", "Adagrad",
            "Momentum", "ImageDecoder", "Constant"}
KNOWN = {"Resize_10_resize_downsample_scales_nearest": "the nearest one is the next when scales shrink, and computed scales are taken to enlarge"}
# Where the judge is none: what is drawn; a slope per channel that the older words do not have; onnxruntime's own reading of
# the indices; and an average over padding, which the evaluator counts and onnx's version converter does not.
NO_JUDGE = ["training_dropout", "PRelu_1_prelu_broadcast", "PRelu_6_prelu_broadcast", "export_with_output_shape", "AveragePool_1_averagepool_2d_precomputed_pads",
            "AveragePool_1_averagepool_2d_precomputed_same_upper", "AveragePool_1_averagepool_2d_same", "AveragePool_1_averagepool_2d_pads"]


def history():
    out = collections.defaultdict(dict)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and not schema.deprecated:
            out[schema.name][schema.since_version] = schema
    return out


def official():
    """The node cases, from onnx's own generator: (name, model, inputs)."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.node[0].domain or model.graph.initializer:
            continue
        if any(o.domain for o in model.opset_import) or not case.data_sets:
            continue
        data = [numpy_helper.to_array(d) if isinstance(d, onnx.TensorProto) else d for d in case.data_sets[0][0]]
        if all(isinstance(d, (np.ndarray, np.generic, list)) for d in data):
            yield case.name, model, data


def allowed(schema, formal, array):
    """Whether the version takes an element type there."""
    text = formal.type_str
    names = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}.get(text, [text])
    if isinstance(array, list) or array is None:
        return any(n.startswith(("seq", "optional")) for n in names)
    kind = helper.tensor_dtype_to_string(helper.np_dtype_to_tensor_dtype(array.dtype)) if array.dtype.kind not in "OU" else "TensorProto.STRING"
    told = kind.split(".")[1].lower()
    return f"tensor({told})" in names


def older(node, data, new, old):
    """The node in the words of the version `old`, with the indices of the inputs that are kept; or None."""
    attrs = {a.name: a for a in node.attribute}
    if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
        return None
    formals = {f.name.lower(): i for i, f in enumerate(old.inputs)}
    variadic = old.inputs and old.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    inputs, kept, made = [], [], {}
    at = -1
    for i, name in enumerate(node.input):
        at += bool(name)
        if not name:
            continue
        formal = new.inputs[min(i, len(new.inputs) - 1)]
        if variadic and i >= len(old.inputs) - 1:
            place = i
        elif formal.name.lower() in formals:
            place = formals[formal.name.lower()]
        elif i < len(old.inputs) and formal.name.lower() not in old.attributes and old.inputs[i].name.lower() not in {f.name.lower() for f in new.inputs}:
            place = i
        elif formal.name in old.attributes:
            value = data[at]
            kind = old.attributes[formal.name].type
            if kind == onnx.defs.OpSchema.AttrType.INTS:
                made[formal.name] = [int(v) for v in np.asarray(value).ravel()]
            elif kind == onnx.defs.OpSchema.AttrType.INT:
                made[formal.name] = int(np.asarray(value).ravel()[0])
            elif kind == onnx.defs.OpSchema.AttrType.FLOATS:
                made[formal.name] = [float(v) for v in np.asarray(value).ravel()]
            elif kind == onnx.defs.OpSchema.AttrType.FLOAT:
                made[formal.name] = float(np.asarray(value).ravel()[0])
            else:
                return None
            continue
        else:
            return None
        if not allowed(old, old.inputs[min(place, len(old.inputs) - 1)], data[at]):
            return None
        while len(inputs) < place:
            inputs.append("")
        inputs.append(name)
        kept.append(at)
    for name, a in attrs.items():
        if name in old.attributes:
            continue
        default = new.attributes[name].default_value
        # What the older version does anyway may be left out.
        if not default.name or helper.get_attribute_value(a) != helper.get_attribute_value(default):
            return None
    if len([o for o in node.output if o]) > len(old.outputs) and not (old.outputs and old.outputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic):
        return None
    out = onnx.NodeProto(op_type=node.op_type, name=node.name)
    while inputs and not inputs[-1]:
        inputs.pop()
    if len([i for i in inputs if i]) < old.min_input:
        return None
    out.input.extend(inputs)
    out.output.extend(node.output)
    out.attribute.extend(a for name, a in attrs.items() if name in old.attributes)
    out.attribute.extend(helper.make_attribute(k, v, attr_type=old.attributes[k].type.value) for k, v in made.items())
    have = {a.name for a in out.attribute}
    if any(a.required and n not in have for n, a in old.attributes.items()):
        return None
    return out, kept


def judged(model, fed):
    """The answer, by onnxruntime or else by onnx's evaluator."""
    try:
        return run_ort(model, fed)
    except Exception:
        return ReferenceEvaluator(model).run(None, fed)


def make(s):
    versions = history()
    covered = collections.defaultdict(int)
    per_pair = collections.Counter()
    for name, model, data in official():
        node = model.graph.node[0]
        known = versions.get(node.op_type, {})
        written = next(o.version for o in model.opset_import if not o.domain)
        current = max((v for v in known if v <= written), default=None)
        if node.op_type in LEFT_OUT or current is None:
            continue
        order = sorted(known)
        for since in order:
            if since >= current:
                continue
            # A few cases of each pair will do.
            if per_pair[node.op_type, since] >= 6:
                continue
            found = older(node, data, known[current], known[since])
            if found is None:
                continue
            # The last opset with this version; those from 7 on are what others run.
            following = min(v for v in order if v > since)
            opset = following - 1
            old, kept = found
            case = f"{node.op_type}_{since}_{name.removeprefix('test_')}"
            infos = [i for k, i in enumerate(model.graph.input) if k in kept]
            graph = helper.make_graph([old], "g", infos, [onnx.ValueInfoProto(name=o.name, type=o.type) for o in model.graph.output])
            for o in graph.output:
                o.type.tensor_type.ClearField("shape") if o.type.HasField("tensor_type") else None
            ir = 3 if opset < 9 else 4 if opset < 11 else 7
            m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
            fed = {i.name: np.asarray(data[k]) if not isinstance(data[k], list) else data[k] for k, i in enumerate(model.graph.input) if k in kept}
            if not s.wants(case) or any(n in case for n in NO_JUDGE):
                continue
            try:
                answer = judged(m, fed)
            except Exception as e:
                if s.verbose:
                    print(f"opsets/{case}: no judge: {str(e)[:160]}")
                continue
            if any(v is None for v in answer):
                continue
            per_pair[node.op_type, since] += 1
            covered[node.op_type, since] += 1
            s.model(case, m, fed, answer, rtol=1e-3, atol=1e-3 if node.op_type in ("DFT", "STFT") else 1e-5)
    import forms

    for pair in forms.make(s):
        if pair:
            covered[pair] += 1
    if s.verbose and not s.only.pattern:
        total = missing = 0
        for op in sorted(versions):
            for since in sorted(versions[op])[:-1]:
                total += 1
                if not covered[op, since] and op not in LEFT_OUT:
                    missing += 1
                    print("no case:", op, since)
        print(f"{total - missing} of {total} older versions have a case")
