"""Makes a graph that fails smaller while it still fails in the same way."""
import copy

import numpy as np
from onnx import helper


def kinds(bad):
    return {(way, v[0]) for way, v in (bad or {}).items()}


def shrink(graph, judge, budget=60):
    bad, answered = judge.verdict(graph)
    goal = kinds(bad)

    def fails(candidate):
        nonlocal budget
        budget -= 1
        if budget < 0:
            return False
        found, there = judge.verdict(candidate)
        # The same kind of failure in one of the ways at least, and no other runtime's refusal in its place.
        return there == answered and bool(kinds(found) & goal)

    changed = True
    while changed and budget > 0:
        changed = False
        for step in (one_output, without_heads, without_tails, without_attributes):
            for candidate in step(graph, judge):
                if fails(candidate):
                    graph, changed = candidate, True
                    break
    return graph


def one_output(graph, _):
    if len(graph.outputs) > 1:
        for output in graph.outputs:
            yield graph.pruned([output])


def without_tails(graph, _):
    """Ends at an inner value."""
    for node in graph.nodes[:-1]:
        for output in node.output:
            yield graph.pruned([output])


def without_heads(graph, judge):
    """Inner values become inputs, with the elements that onnxruntime found."""
    inner = [o for node in graph.nodes for o in node.output if o and o not in graph.outputs]
    if not inner:
        return
    whole = copy.copy(graph)
    whole.outputs = inner
    values = judge.ort.run(whole.model().SerializeToString(), {n: graph.arrays[n] for n in graph.inputs()})
    if values is None:
        return
    found = {n: v for n, v in zip(inner, values) if isinstance(v, np.ndarray)}
    last = list(found)[::-1]
    for name in last:
        cut = copy.copy(graph)
        cut.arrays = {**graph.arrays, name: found[name]}
        nodes = []
        for node in graph.nodes:
            if name in node.output:
                node = copy.deepcopy(node)
                outputs = ["" if o == name else o for o in node.output]
                if not any(outputs):
                    continue
                del node.output[:]
                node.output.extend(outputs)
            nodes.append(node)
        cut.nodes = nodes
        cut.dtypes = {**graph.dtypes, name: helper.np_dtype_to_tensor_dtype(found[name].dtype)}
        smaller = cut.pruned(graph.outputs)
        if len(smaller.nodes) < len(graph.nodes):
            yield smaller


def without_attributes(graph, _):
    for i, node in enumerate(graph.nodes):
        for k in range(len(node.attribute)):
            smaller = copy.copy(graph)
            smaller.nodes = [copy.deepcopy(n) for n in graph.nodes]
            del smaller.nodes[i].attribute[k]
            yield smaller
