"""A random graph while it grows.

Every value knows its type, its shape, and how far its numbers can be trusted, so that operators with steps (Floor, Cast
to integers, comparisons) are only applied where both sides see the same bits:
  GRID  small multiples of 1/4; sums and products of them are exact in f32
  SAME  any bits, but the same on both sides: inputs and copies of them
  NEAR  rounded; equal within a tolerance
"""
import math
import random

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import defs, helper, numpy_helper, shape_inference

NEAR, SAME, GRID = 0, 1, 2
FLOATS = (T.FLOAT, T.DOUBLE, T.FLOAT16)
SIGNED = (T.INT8, T.INT16, T.INT32, T.INT64)
UNSIGNED = (T.UINT8, T.UINT16, T.UINT32, T.UINT64)
INTS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTS
PLAIN = NUMBERS + (T.BOOL,)
# Constants whose names begin so are written as sparse tensors.
SPARSE = "cs"
WORDS = ("", "a", "B", "word", "Wort", "élan", "two words", "x", "1.5")


class Reject(Exception):
    """This node cannot be drawn here; another is."""


class Value:
    __slots__ = ("name", "dtype", "shape", "trust", "bound", "leaf")

    def __init__(self, name, dtype, shape, trust, bound, leaf=False):
        self.name, self.dtype, self.shape = name, dtype, shape
        self.trust, self.bound, self.leaf = trust, bound, leaf

    @property
    def rank(self):
        return len(self.shape)

    @property
    def size(self):
        return math.prod(self.shape)


def np_type(dtype):
    return helper.tensor_dtype_to_np_dtype(dtype)


def type_name(dtype):
    return "tensor(" + {T.FLOAT: "float", T.DOUBLE: "double", T.BOOL: "bool", T.STRING: "string"}.get(
        dtype, T.DataType.Name(dtype).lower()) + ")"


class Draw:
    def __init__(self, seed, opset):
        self.rng = random.Random(seed)
        self.np = np.random.default_rng(seed)
        self.opset = opset
        self.values, self.nodes = [], []
        self.arrays, self.constants = {}, set()
        self.count = 0
        # Types are mostly few in one graph, or nodes would hardly ever find a partner.
        pick = self.rng.random()
        self.usual = (T.FLOAT,) if pick < 0.5 else (self.rng.choice(NUMBERS),) if pick < 0.8 else PLAIN if pick < 0.97 else (T.STRING,)

    # ------------------------------------------------------------------ chance
    def chance(self, p):
        return self.rng.random() < p

    def pick(self, *options):
        return self.rng.choice(options)

    def maybe(self, value, p=0.5):
        return value if self.chance(p) else None

    def int(self, low, high):
        return self.rng.randint(low, high)

    def dim(self):
        return 0 if self.chance(0.02) else self.rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 16, 17))

    def shape(self, low=0, high=4):
        rank = self.int(low, high)
        return tuple(self.dim() if rank < 4 else min(self.dim(), 5) for _ in range(rank))

    def axis(self, rank, negative=True):
        if rank == 0:
            raise Reject
        axis = self.int(0, rank - 1)
        return axis - rank if negative and self.chance(0.3) else axis

    def axes(self, rank, least=1, most=None):
        most = rank if most is None else min(most, rank)
        if most < least:
            raise Reject
        axes = self.rng.sample(range(rank), self.int(least, most))
        return [a - rank if self.chance(0.2) else a for a in axes]

    def partner(self, shape):
        """A shape that broadcasts with `shape`."""
        dims = [1 if self.chance(0.25) else d if d != 1 or self.chance(0.7) else self.dim() for d in shape]
        if self.chance(0.3):
            dims = dims[self.int(0, len(dims)):]
        elif self.chance(0.1):
            dims = [self.int(1, 3), *dims]
        return tuple(dims)

    # ------------------------------------------------------------------ values
    def name(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"

    def array(self, dtype, shape):
        """(array, trust, bound)"""
        size = math.prod(shape)
        if dtype == T.STRING:
            return np.array([self.rng.choice(WORDS) for _ in range(size)], dtype=object).reshape(shape), SAME, 0
        if dtype == T.BOOL:
            return self.np.integers(0, 2, shape).astype(bool), GRID, 1
        kind = np_type(dtype)
        if dtype in INTS:
            if self.chance(0.06):
                info = np.iinfo(kind)
                return self.np.integers(info.min, info.max, shape, dtype=kind, endpoint=True), SAME, float(info.max)
            low = -6 if dtype in SIGNED else 0
            return self.np.integers(low, 10, shape).astype(kind), GRID, 10
        if self.chance(0.4):
            array = self.np.standard_normal(shape).astype(kind)
            return array, SAME, 6
        return (self.np.integers(-16, 17, shape) / 4).astype(kind), GRID, 4

    def leaf(self, dtype, shape, array=None, constant=None):
        drawn = array is None
        if drawn:
            array, trust, bound = self.array(dtype, shape)
            array = np.asarray(array)       # numpy makes a bare number of no axes
        else:
            array = np.asarray(array, dtype=None if dtype == T.STRING else np_type(dtype))
            shape = array.shape
            plain = array.size and dtype not in (T.STRING, T.BOOL)
            trust, bound = SAME, float(np.max(np.abs(array.astype(np.float64)))) if plain else 1
        if math.prod(shape) > 20000:
            raise Reject
        constant = self.chance(0.3) if constant is None else constant
        sparse = drawn and constant and self.opset >= 11 and array.ndim in (1, 2) and array.size > 1 and array.dtype in (np.float32, np.float64) and self.chance(0.05)
        if sparse:
            array = np.where(self.np.random(array.shape) < 0.6, array.dtype.type(0), array)
        name = self.name(SPARSE if sparse else "c" if constant else "x")
        self.arrays[name] = array
        if constant:
            self.constants.add(name)
        value = Value(name, dtype, tuple(shape), trust, bound, leaf=True)
        self.values.append(value)
        return value

    def param(self, array, dtype=T.INT64):
        """A small input that steers an operator: a constant, mostly."""
        return self.leaf(dtype, None, array, constant=self.chance(0.7))

    def value(self, dtypes=None, low=0, high=4, trust=NEAR, shape=None, where=None):
        """A value of one of the types, an old one or a new."""
        dtypes = tuple(dtypes) if dtypes else PLAIN
        usual = [t for t in self.usual if t in dtypes] or dtypes
        if shape is None and self.chance(0.75):
            fits = [v for v in self.values if v.dtype in dtypes and v.shape is not None and low <= v.rank <= high
                    and v.trust >= trust and not v.name.startswith("c") and (where is None or where(v))]
            # What nodes made comes first, so that graphs grow in depth.
            made = [v for v in fits if not v.leaf]
            if made and self.chance(0.8):
                return self.rng.choice(made[-4:])
            if fits:
                return self.rng.choice(fits)
        if where is not None and shape is None:
            for _ in range(20):
                candidate = self.shape(low, high)
                if where(Value("", usual[0], candidate, GRID, 0)):
                    shape = candidate
                    break
            else:
                raise Reject
        return self.leaf(self.rng.choice(usual), self.shape(low, high) if shape is None else shape)

    def like(self, value, shape, p=0.6):
        """Another value of the same type and of this shape."""
        fits = [v for v in self.values if v.dtype == value.dtype and v.shape == tuple(shape) and v is not value]
        if fits and self.chance(p):
            return self.rng.choice(fits)
        return self.leaf(value.dtype, tuple(shape))

    # ------------------------------------------------------------------- nodes
    def node(self, op, inputs, outputs=1, trust=NEAR, bound=math.inf, domain="", **attrs):
        """Adds a node. An attribute that this version takes as an input becomes one, and one that it does not know
        is left out."""
        try:
            schema = defs.get_schema(op, self.opset, domain)
        except defs.SchemaError:
            raise Reject from None
        if schema.deprecated:
            raise Reject
        inputs = list(inputs)
        places = {p.name: i for i, p in enumerate(schema.inputs)}
        kept = {}
        for key, attr in attrs.items():
            if attr is None:
                continue
            if key in schema.attributes:
                kept[key] = attr
            elif key in places:
                while len(inputs) <= places[key]:
                    inputs.append(None)
                inputs[places[key]] = attr if isinstance(attr, Value) else self.param(attr)
        while inputs and inputs[-1] is None:
            inputs.pop()
        self.check_types(schema, inputs)
        names = [v.name if v is not None else "" for v in inputs]
        results = [self.name("y") for _ in range(outputs)]
        node = helper.make_node(op, names, results, domain=domain, **kept)
        types = self.infer(schema, node, inputs)
        made = []
        for result in results:
            kind = types.get(result)
            dtype, shape = None, None
            if kind is not None and kind.WhichOneof("value") == "tensor_type":
                dtype = kind.tensor_type.elem_type
                if kind.tensor_type.HasField("shape"):
                    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim]
                    shape = None if None in dims else tuple(dims)
            if shape is not None and math.prod(shape) > 50000:
                raise Reject
            if dtype in INTS and bound > 2**20:
                trust = min(trust, SAME)
            limit = 2**20 if dtype != T.FLOAT16 else 2**8
            made.append(Value(result, dtype, shape, SAME if trust == GRID and bound > limit else trust, bound))
        self.nodes.append(node)
        self.values.extend(made)
        return made

    def check_types(self, schema, inputs):
        if len(inputs) < schema.min_input or len(inputs) > schema.max_input:
            raise Reject
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        bound = {}
        for i, value in enumerate(inputs):
            if value is None or value.dtype is None:
                continue
            formal = schema.inputs[min(i, len(schema.inputs) - 1)]
            name = type_name(value.dtype)
            if name not in allowed.get(formal.type_str, {formal.type_str}):
                raise Reject
            if formal.is_homogeneous and bound.setdefault(formal.type_str, name) != name:
                raise Reject

    def infer(self, schema, node, inputs):
        types, data = {}, {}
        for value in inputs:
            if value is None:
                continue
            if value.dtype is None:
                return {}
            types[value.name] = helper.make_tensor_type_proto(value.dtype, value.shape)
            array = self.arrays.get(value.name)
            if array is not None and array.size <= 64 and array.ndim <= 1:
                data[value.name] = numpy_helper.from_array(array, value.name)
        try:
            return shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        except Exception:  # whatever inference has against the node
            raise Reject from None

    # ------------------------------------------------------------------- model
    def graph(self):
        used = {name for node in self.nodes for name in node.input}
        for node in self.nodes:
            for attr in node.attribute:
                for sub in [attr.g, *attr.graphs]:
                    used |= {name for inner in sub.node for name in inner.input}
        made = {v.name: v for v in self.values if not v.leaf}
        outputs = [n for n in made if n not in used or self.chance(0.1)]
        dtypes = {v.name: v.dtype for v in self.values}
        return Graph(self.opset, self.nodes, {n: a for n, a in self.arrays.items() if n in used},
                     {c for c in self.constants if c in used}, outputs, dtypes)


def sparse_proto(array, name):
    """The elements that are not zero, by their places in one line."""
    flat = array.reshape(-1)
    at = np.flatnonzero(flat)
    return helper.make_sparse_tensor(numpy_helper.from_array(flat[at], name), numpy_helper.from_array(at.astype(np.int64), ""), list(array.shape))


class Graph:
    """A finished graph with the values of its inputs."""

    def __init__(self, opset, nodes, arrays, constants, outputs, dtypes):
        self.opset, self.nodes, self.arrays = opset, list(nodes), dict(arrays)
        self.constants, self.outputs, self.dtypes = set(constants), list(outputs), dtypes

    def inputs(self):
        return [n for n in self.arrays if n not in self.constants]

    def model(self):
        def info(name, shape):
            dtype = self.dtypes.get(name)
            if dtype is None:
                return onnx.ValueInfoProto(name=name)
            return helper.make_tensor_value_info(name, dtype, shape)

        kept = [n for n in self.arrays if n in self.constants]
        # Of old, initializers were inputs too.
        ir = 10 if self.opset > 20 else 3 if self.opset < 9 and len(self.nodes) % 2 else 8
        graph = helper.make_graph(
            self.nodes, "random", [info(n, self.arrays[n].shape) for n in [*self.inputs(), *(kept if ir < 4 else [])]],
            [info(n, None) for n in self.outputs],
            [numpy_helper.from_array(self.arrays[n], n) for n in kept if not n.startswith(SPARSE)],
            sparse_initializer=[sparse_proto(self.arrays[n], n) for n in kept if n.startswith(SPARSE)])
        domains = {n.domain for n in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir)

    def pruned(self, outputs):
        """The part that makes these outputs."""
        need, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if need & set(node.output):
                nodes.append(node)
                need |= set(node.input)
                for attr in node.attribute:
                    for sub in [attr.g, *attr.graphs]:
                        need |= {name for inner in sub.node for name in inner.input}
        arrays = {n: a for n, a in self.arrays.items() if n in need}
        return Graph(self.opset, nodes[::-1], arrays, self.constants & set(arrays), outputs, self.dtypes)
