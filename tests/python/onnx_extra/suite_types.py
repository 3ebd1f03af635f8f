"""Every element type as a constant and through the engine: typed fields and raw data, sparse constants, tensors of no elements."""
import numpy as np
import onnx
from core import make_model
from onnx import TensorProto, helper, numpy_helper

INTS = ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "INT4", "UINT4", "INT2", "UINT2"]
FLOATS = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1"]
OTHERS = ["BOOL", "STRING"]


def sample(name, shape):
    n = int(np.prod(shape))
    if name == "STRING":
        return np.array([f"word {i}" for i in range(n)], object).reshape(shape)
    dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))
    if name == "BOOL":
        return (np.arange(n) % 3 == 0).reshape(shape)
    low = {"INT2": -2, "UINT2": 0, "INT4": -8, "UINT4": 0}.get(name)
    if low is not None:
        span = 4 if name.endswith("2") else 16
        return (low + np.arange(n) % span).astype(np.int8).astype(dtype).reshape(shape)
    if name in INTS:
        info = np.iinfo(dtype)
        ends = [info.min, info.max, 0, 1]
        return np.array([ends[i % 4] if i < 4 else i for i in range(n)], dtype=dtype).reshape(shape)
    if name == "FLOAT8E8M0":
        return np.array([2.0 ** (i - 3) for i in range(n)], np.float32).astype(dtype).reshape(shape)
    return np.array([(-1) ** i * [0.0, 0.5, 1.5, 6.0][i % 4] for i in range(n)], np.float32).astype(dtype).reshape(shape)


def typed(name, a, key):
    """The tensor in the fields of its type, not as raw data."""
    number = getattr(TensorProto, name)
    t = TensorProto(name=key, data_type=number, dims=a.shape)
    flat = a.ravel()
    if name == "STRING":
        t.string_data.extend(s.encode() for s in flat)
    elif name == "FLOAT":
        t.float_data.extend(flat.tolist())
    elif name == "DOUBLE":
        t.double_data.extend(flat.tolist())
    elif name == "INT64":
        t.int64_data.extend(flat.tolist())
    elif name in ("UINT32", "UINT64"):
        t.uint64_data.extend(flat.tolist())
    elif name in ("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"):
        t.int32_data.extend(numpy_helper.from_array(a).raw_data)
    elif name in ("FLOAT16", "BFLOAT16"):
        t.int32_data.extend(flat.view(np.uint16).tolist())
    elif name.startswith("FLOAT8"):
        t.int32_data.extend(flat.view(np.uint8).tolist())
    else:
        t.int32_data.extend(flat.astype(np.int64).tolist())
    return t


def raw(a, key):
    return numpy_helper.from_array(a, key)


def make(s):
    for name in INTS + FLOATS + OTHERS:
        number = getattr(TensorProto, name)
        for label, shape in [("", [2, 5]), ("_odd", [3]), ("_scalar", []), ("_none", [0, 3])]:
            a = sample(name, shape)
            out = {"y": helper.make_tensor_value_info("y", number, shape), "z": helper.make_tensor_value_info("z", number, shape)}
            for form, tensor in [("typed", typed(name, a, "c"))] + ([] if name == "STRING" else [("raw", raw(a, "c"))]):
                nodes = [helper.make_node("Identity", ["c"], ["y"]), helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("Identity", ["k"], ["z"])]
                model = make_model(nodes, [], ["y", "z"], 26, [tensor], 13, known=out)
                s.model(f"{name}_{form}{label}", model, {}, [a, a], rtol=0, atol=0)
            # Through the graph as an input, reshaped and turned.
            if name not in ("STRING",) and len(shape) == 2:
                info = helper.make_tensor_value_info("x", number, shape)
                flat = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
                known = {"y": helper.make_tensor_value_info("y", number, shape[::-1])}
                s.model(f"{name}_transpose{label}", make_model([flat], [info], ["y"], 26, ir=13, known=known), {"x": a}, [a.T.copy()], rtol=0, atol=0)
    sparse(s)
    casts(s)


def sparse(s):
    for name in ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT32", "INT64", "UINT64", "BOOL"]:
        number = getattr(TensorProto, name)
        values = sample(name, [3])
        if name == "INT64":
            values = np.array([2**62 + 1, -5, 7])
        dense = np.zeros([2, 4], values.dtype)
        for (i, j), v in zip([(0, 1), (1, 0), (1, 3)], values):
            dense[i, j] = v
        for form, at in [("flat", np.array([1, 4, 7], np.int64)), ("rows", np.array([[0, 1], [1, 0], [1, 3]], np.int64))]:
            tensor = onnx.SparseTensorProto(values=numpy_helper.from_array(values, "c"), indices=numpy_helper.from_array(at, "c_at"), dims=[2, 4])
            known = {k: helper.make_tensor_value_info(k, number, [2, 4]) for k in "yz"}
            nodes = [helper.make_node("Identity", ["c"], ["y"]), helper.make_node("Constant", [], ["k"], sparse_value=tensor), helper.make_node("Identity", ["k"], ["z"])]
            model = make_model(nodes, [], ["y", "z"], 21, known=known)
            model.graph.sparse_initializer.append(tensor)
            s.model(f"sparse_{name}_{form}", model, {}, [dense, dense], rtol=0, atol=0)


def casts(s):
    """Between any two numeric types, of values that both have."""
    both = np.array([0, 1], np.float32)
    for a in INTS + FLOATS:
        for b in INTS + FLOATS:
            values = np.array([1, 2], np.float32) if "FLOAT8E8M0" in (a, b) else both
            if "INT2" in (a, b):
                values = np.array([1, 1], np.float32) if "FLOAT8E8M0" in (a, b) else both
            source = values.astype(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, a)))
            target = values.astype(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, b)))
            known = {"y": helper.make_tensor_value_info("y", getattr(TensorProto, b), [2])}
            info = helper.make_tensor_value_info("x", getattr(TensorProto, a), [2])
            node = helper.make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, b))
            s.model(f"cast_{a}_{b}", make_model([node], [info], ["y"], 26, ir=13, known=known), {"x": source}, [target], rtol=0, atol=0)
