"""`ai.onnx.ml`: every operator with each of its forms."""
import itertools

import numpy as np
from core import make_model, normal, rng
from onnx import TensorProto, helper

ML = "ai.onnx.ml"
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def floats(a):
    return [float(v) for v in np.asarray(a, np.float32).ravel()]


def make(s):
    scaling(s)
    linear(s)
    svm(s)
    trees(s)
    tables(s)
    maps(s)
    text(s)


def scaling(s):
    x = normal([4, 3])
    for t in (np.float32, np.float64, np.int64, np.int32):
        xs = (x * 10).astype(t)
        name = np.dtype(t).name
        s.node(f"Scaler_{name}", "Scaler", [xs], domain=ML, attrs={"offset": [1.0, 0.5, -1.0], "scale": [2.0, 0.5, 3.0]})
        for norm in ("MAX", "L1", "L2"):
            s.node(f"Normalizer_{norm}_{name}", "Normalizer", [xs], domain=ML, attrs={"norm": norm})
        s.node(f"Binarizer_{name}", "Binarizer", [xs], domain=ML, attrs={"threshold": 1.5})
    s.node("Scaler_one", "Scaler", [x], domain=ML, attrs={"offset": [1.0], "scale": [2.0]}, dynamic=True)
    holes = x.copy()
    holes[1, 2] = holes[3, 0] = np.nan
    s.node("Imputer", "Imputer", [holes], domain=ML, attrs={"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")})
    s.node("Imputer_one", "Imputer", [np.where(x > 0, x, 0).astype(np.float32)], domain=ML, attrs={"imputed_value_floats": [7.0], "replaced_value_float": 0.0})
    s.node("Imputer_int", "Imputer", [rng().integers(0, 3, [4, 3])], domain=ML, attrs={"imputed_value_int64s": [7, 8, 9], "replaced_value_int64": 1})
    s.node("FeatureVectorizer", "FeatureVectorizer", [x, rng().standard_normal([4, 2]).astype(np.float32)], domain=ML, attrs={"inputdimensions": [3, 2]})
    s.node("ArrayFeatureExtractor", "ArrayFeatureExtractor", [x, np.array([2, 0, 2], np.int64)], domain=ML)
    s.node("ArrayFeatureExtractor_vector", "ArrayFeatureExtractor", [x[0], np.array([[1]], np.int64)], domain=ML)
    s.node("ArrayFeatureExtractor_string", "ArrayFeatureExtractor", [np.array([["a", "b"], ["c", "d"]], object), np.array([1], np.int64)], domain=ML)


def linear(s):
    x = normal([5, 3])
    for t in TRANSFORMS:
        probit = t == "PROBIT"
        c = np.abs(normal([3, 3], 1)) * 0.05 + 0.1 if probit else normal([3, 3], 1)
        xs = np.abs(x) if probit else x
        s.node(f"LinearClassifier_{t}", "LinearClassifier", [xs], outputs=2, domain=ML, rtol=1e-3, atol=1e-4,
               attrs={"coefficients": floats(c), "intercepts": [0.1, 0.2, 0.3] if probit else [0.1, -0.2, 0.3], "classlabels_ints": [3, 5, 9], "post_transform": t})
        if not probit:
            s.node(f"LinearClassifier_binary_{t}", "LinearClassifier", [xs], outputs=2, domain=ML, rtol=1e-3, atol=1e-4,
                   attrs={"coefficients": floats(c[:1]), "intercepts": [0.1], "classlabels_strings": ["no", "yes"], "post_transform": t})
        s.node(f"LinearRegressor_{t}", "LinearRegressor", [xs], domain=ML, rtol=1e-3, atol=1e-4,
               attrs={"coefficients": floats(c[:2]), "intercepts": [0.1, 0.2], "targets": 2, "post_transform": t})
    s.node("LinearClassifier_int", "LinearClassifier", [(x * 5).astype(np.int64)], outputs=2, domain=ML,
           attrs={"coefficients": floats(normal([2, 3], 1)), "intercepts": [0.1, -0.2], "classlabels_ints": [0, 1]})
    s.node("LinearRegressor_one", "LinearRegressor", [x], domain=ML, attrs={"coefficients": floats(normal([3], 1)), "targets": 1}, dynamic=True)


def svm(s):
    x = normal([6, 4])
    kernels = [("LINEAR", [0.0, 0.0, 0.0]), ("POLY", [0.3, 0.5, 2.0]), ("RBF", [0.4, 0.0, 3.0]), ("SIGMOID", [0.2, 0.1, 3.0])]
    for (kernel, params), classes, proba in itertools.product(kernels, (2, 3, 4), (0, 1)):
        counts = [2, 3, 1, 2][:classes]
        total, pairs = sum(counts), classes * (classes - 1) // 2
        attrs = {"kernel_type": kernel, "classlabels_ints": list(range(10, 10 + classes)), "vectors_per_class": counts, "rho": floats(normal([pairs], 3)),
                 "support_vectors": floats(normal([total, 4], 1)), "coefficients": floats(normal([classes - 1, total], 2))}
        attrs |= {"kernel_params": params} if params else {}
        attrs |= {"prob_a": floats(-np.abs(normal([pairs], 4))), "prob_b": floats(normal([pairs], 5))} if proba else {}
        for t in TRANSFORMS if kernel == "RBF" and classes < 4 else ["NONE"]:
            if t == "PROBIT" and not proba:
                continue
            s.node(f"SVMClassifier_{kernel}_{classes}_{proba}_{t}", "SVMClassifier", [x], outputs=2, domain=ML, attrs=attrs | {"post_transform": t},
                   rtol=1e-3, atol=1e-4)
    for positive in (0, 1):
        c = normal([3, 4], 2)
        attrs = {"classlabels_strings": ["a", "b", "c"], "coefficients": floats(np.abs(c) if positive else c), "rho": [0.2], "kernel_params": [0.0, 0.0, 0.0]}
        s.node(f"SVMClassifier_no_vectors_{positive}", "SVMClassifier", [x], outputs=2, domain=ML, attrs=attrs)
    for (kernel, params), one in itertools.product(kernels, (0, 1)):
        attrs = {"kernel_type": kernel, "n_supports": 5, "support_vectors": floats(normal([5, 4], 1)), "coefficients": floats(normal([5], 2)), "rho": [0.3],
                 "one_class": one} | ({"kernel_params": params} if params else {})
        s.node(f"SVMRegressor_{kernel}_{one}", "SVMRegressor", [x], domain=ML, attrs=attrs, rtol=1e-3, atol=1e-4)
    s.node("SVMRegressor_no_vectors", "SVMRegressor", [x], domain=ML, attrs={"coefficients": floats(normal([4], 2)), "rho": [0.3], "kernel_params": [0.0, 0.0, 0.0]})


def forest(seed, trees, columns, depth, modes):
    """Full binary trees; returns the `nodes_*` attributes and the (tree, node) pairs of the leaves."""
    r = rng(seed)
    n = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    leaves = []
    for t in range(trees):
        for i in range(2 ** (depth + 1) - 1):
            inner = i < 2**depth - 1
            n["treeids"].append(t)
            n["nodeids"].append(i)
            n["featureids"].append(int(r.integers(columns)) if inner else 0)
            n["values"].append(float(np.float32(r.choice([-1.0, 0.0, 0.5, 1.0]))) if inner else 0.0)
            n["modes"].append(str(r.choice(modes)) if inner else "LEAF")
            n["truenodeids"].append(2 * i + 1 if inner else 0)
            n["falsenodeids"].append(2 * i + 2 if inner else 0)
            n["missing_value_tracks_true"].append(int(r.integers(2)))
            if not inner:
                leaves.append((t, i))
    return {f"nodes_{k}": v for k, v in n.items()}, leaves


def trees(s):
    x = np.round(normal([12, 4]) * 2) / 2
    x[3, 1] = x[5, 2] = np.nan
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    for mode in [[m] for m in modes] + [modes]:
        nodes, leaves = forest(1, 3, 4, 3, mode)
        w = floats(normal([len(leaves) * 2], 7))
        regress = nodes | {"n_targets": 2, "target_treeids": [t for t, _ in leaves for _ in "ab"], "target_nodeids": [n for _, n in leaves for _ in "ab"],
                           "target_ids": [0, 1] * len(leaves), "target_weights": w}
        for agg in ("SUM", "AVERAGE", "MIN", "MAX") if len(mode) > 1 else ("SUM",):
            for base in ([], [0.5, -0.25]):
                s.node(f"TreeEnsembleRegressor_{'mixed' if len(mode) > 1 else mode[0]}_{agg}_{len(base)}", "TreeEnsembleRegressor", [x], domain=ML,
                       attrs=regress | {"aggregate_function": agg} | ({"base_values": base} if base else {}))
    nodes, leaves = forest(2, 3, 4, 2, ["BRANCH_LEQ"])
    s.node("TreeEnsembleRegressor_f64", "TreeEnsembleRegressor", [x.astype(np.float64)], domain=ML,
           attrs=nodes | {"n_targets": 1, "target_treeids": [t for t, _ in leaves], "target_nodeids": [n for _, n in leaves], "target_ids": [0] * len(leaves),
                          "target_weights": floats(normal([len(leaves)], 7))})
    # With two classes that both have weights onnxruntime answers 0 or 1 whatever the labels are, so that it is no judge.
    for classes, t in itertools.product((3, 4), TRANSFORMS):
        weights = np.abs(normal([len(leaves) * classes], 8)) * 0.1
        for signed in (0, 1) if t != "PROBIT" else (0,):
            attrs = nodes | {"class_treeids": [a for a, _ in leaves for _ in range(classes)], "class_nodeids": [n for _, n in leaves for _ in range(classes)],
                             "class_ids": list(range(classes)) * len(leaves), "class_weights": floats(weights * (np.sign(normal(weights.shape, 9)) if signed else 1)),
                             "classlabels_int64s": list(range(3, 3 + classes)), "post_transform": t}
            s.node(f"TreeEnsembleClassifier_{classes}_{t}_{signed}", "TreeEnsembleClassifier", [x], outputs=2, domain=ML, attrs=attrs, rtol=1e-3, atol=1e-4)
    # PROBIT of one score is left out here and above: onnxruntime transforms one of the two columns.
    for t, signed in itertools.product(TRANSFORMS[:-1], (0, 1)):
        w = np.abs(normal([len(leaves)], 8)) * 0.2
        attrs = nodes | {"class_treeids": [a for a, _ in leaves], "class_nodeids": [n for _, n in leaves], "class_ids": [0] * len(leaves),
                         "class_weights": floats(w * (np.sign(normal(w.shape, 9)) if signed else 1)), "classlabels_strings": ["no", "yes"], "post_transform": t}
        s.node(f"TreeEnsembleClassifier_one_{t}_{signed}", "TreeEnsembleClassifier", [x], outputs=2, domain=ML, attrs=attrs, rtol=1e-3, atol=1e-4)


def tables(s):
    words = np.array([["a", "b"], ["z", "c"]], object)
    numbers = np.array([[1, 2], [9, 3]], np.int64)
    s.node("CategoryMapper_string", "CategoryMapper", [words], domain=ML, attrs={"cats_strings": ["a", "b", "c"], "cats_int64s": [1, 2, 3], "default_int64": -1})
    s.node("CategoryMapper_int", "CategoryMapper", [numbers], domain=ML, attrs={"cats_strings": ["a", "b", "c"], "cats_int64s": [1, 2, 3], "default_string": "?"})
    for zeros in (0, 1):
        s.node(f"OneHotEncoder_int_{zeros}", "OneHotEncoder", [np.array([3, 1, 2], np.int64)], domain=ML, attrs={"cats_int64s": [1, 2, 3], "zeros": zeros})
        s.node(f"OneHotEncoder_string_{zeros}", "OneHotEncoder", [np.array([["a", "c"]], object)], domain=ML, attrs={"cats_strings": ["a", "b", "c"], "zeros": zeros})
    s.node("OneHotEncoder_unknown", "OneHotEncoder", [np.array([7, 1], np.int64)], domain=ML, attrs={"cats_int64s": [1, 2, 3], "zeros": 1})
    s.node("OneHotEncoder_float", "OneHotEncoder", [np.array([2.0, 1.0], np.float32)], domain=ML, attrs={"cats_int64s": [1, 2, 3], "zeros": 1})
    f = np.array([[1.0, 2.5], [np.nan, 3.0]], np.float32)
    for (kn, kv, x), (vn, vv, default) in itertools.product(
        [("strings", ["a", "b", "c"], words), ("int64s", [1, 2, 3], numbers), ("floats", [1.0, 2.5, float("nan")], f)],
        [("strings", ["x", "y", "z"], {"default_string": "?"}), ("int64s", [7, 8, 9], {"default_int64": -5}), ("floats", [0.5, 1.5, 2.5], {"default_float": -0.5})],
    ):
        for d in (0, 1):
            s.node(f"LabelEncoder_{kn}_{vn}_{d}", "LabelEncoder", [x], domain=ML, attrs={f"keys_{kn}": kv, f"values_{vn}": vv} | (default if d else {}))


def chain(s, name, nodes, inputs, outputs):
    infos = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), list(v.shape)) for k, v in inputs.items()]
    s.model(name, make_model(nodes, infos, outputs), inputs)


def maps(s):
    x = normal([3, 4])
    for name, labels in [("strings", {"classlabels_strings": ["a", "b", "c", "d"]}), ("ints", {"classlabels_int64s": [7, 3, 9, 1]})]:
        zip_map = helper.make_node("ZipMap", ["x"], ["m"], domain=ML, **labels)
        chain(s, f"ZipMap_{name}", [zip_map], {"x": x}, ["m"])
        chain(s, f"ZipMap_vector_{name}", [zip_map], {"x": x[0]}, ["m"])
    # Maps as inputs of a graph.
    for name, key, value, fed in [
        ("string_float", TensorProto.STRING, TensorProto.FLOAT, {"a": 1.5, "c": 2.5}),
        ("string_int", TensorProto.STRING, TensorProto.INT64, {"c": 4, "a": 2}),
        ("int_float", TensorProto.INT64, TensorProto.FLOAT, {3: 1.5, 1: 2.5}),
    ]:
        vocabulary = {"string_vocabulary": ["a", "z", "c"]} if key == TensorProto.STRING else {"int64_vocabulary": [1, 2, 3]}
        info = helper.make_value_info("x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, [])))
        node = helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, **vocabulary)
        answer = {"string_int": [np.array([[2, 0, 4]], np.int64)]}.get(name)
        s.model(f"DictVectorizer_{name}", make_model([node], [info], ["y"]), {"x": fed}, answer)
    ints = helper.make_value_info("x", helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])))
    strings = helper.make_value_info("x", helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.STRING, [])))
    for form, to in itertools.product(("DENSE", "SPARSE"), ("TO_FLOAT", "TO_INT64", "TO_STRING")):
        node = helper.make_node("CastMap", ["x"], ["y"], domain=ML, cast_to=to, map_form=form, max_map=6)
        s.model(f"CastMap_{form}_{to}", make_model([node], [ints], ["y"]), {"x": {4: 1.0, 0: 2.0, 2: 3.0}})
        # onnxruntime's Python binding takes no map of strings: the answer follows from the definition.
        row = ["2", "3", "1"] if form == "DENSE" else ["2", "0.f", "3", "0.f", "1", "0.f"] if to == "TO_STRING" else ["2", "0", "3", "0", "1", "0"]
        dtype = {"TO_FLOAT": np.float32, "TO_INT64": np.int64, "TO_STRING": object}[to]
        s.model(f"CastMap_{form}_{to}_of_strings", make_model([node], [strings], ["y"]), {"x": {4: "1", 0: "2", 2: "3"}},
                [np.array([row], object).astype(dtype)])


def text(s):
    docs = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int32)
    pool = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]
    for mode, skips, (lo, hi) in itertools.product(("TF", "IDF", "TFIDF"), (0, 3), ((1, 1), (1, 2), (2, 2))):
        s.node(f"TfIdfVectorizer_{mode}_{skips}_{lo}{hi}", "TfIdfVectorizer", [docs], opset=9,
               attrs={"mode": mode, "min_gram_length": lo, "max_gram_length": hi, "max_skip_count": skips, "ngram_counts": [0, 4], "ngram_indexes": list(range(7)),
                      "pool_int64s": pool, "weights": [0.5, 1.0, 2.0, 1.5, 0.25, 3.0, 1.0]})
    s.node("TfIdfVectorizer_string", "TfIdfVectorizer", [np.array([["a", "b", "a", "c"]], object)], opset=9,
           attrs={"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, "ngram_counts": [0, 3], "ngram_indexes": [0, 1, 2, 3, 4],
                  "pool_strings": ["a", "b", "d", "a", "b", "b", "a"]})
