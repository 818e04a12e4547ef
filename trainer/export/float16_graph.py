"""Convert the convolutions of a graph to float16. The nodes before the first and after the last stay in float32.

Scaling, heads, calibration and the familiarity distance are a few operations: in float32 they cost nothing, and in
float16 the squares of a distance overflow. The converter is that of ONNX Runtime, maintained for its execution
providers. It gets only the convolutions, because it would also round between two nodes that stay in float32.
"""

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Any

from worker.errors import ModelRefused

#: Prefix of the names of float16 weights: a head may use the same constant in float32.
PREFIX = "half/"


def halve(proto: Any) -> Any:
    """A new ONNX ModelProto, without metadata; the same inputs and outputs, of the same types.

    Raises ModelRefused when there is no convolution in float32.
    """
    import onnx
    from onnx.compose import add_prefix
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = onnx.shape_inference.infer_shapes(proto)
    inside = trunk(proto.graph.node)
    outside = [node for node in proto.graph.node if node not in inside]
    extracted = _extracted(proto, inside, outside)
    if not any(weights.data_type == onnx.TensorProto.FLOAT for weights in extracted.graph.initializer):
        raise ModelRefused("has no convolutions in float32, so float16 would change nothing")
    half = convert_float_to_float16(extracted, keep_io_types=True, op_block_list=[])
    kept = dict.fromkeys(
        ("rename_nodes", "rename_edges", "rename_inputs", "rename_outputs", "rename_value_infos"), False
    )
    half = add_prefix(half, PREFIX, **kept)

    read = {name for node in outside for name in node.input}
    constants = [weights for weights in proto.graph.initializer if weights.name in read]
    graph = onnx.helper.make_graph(
        _in_order([*outside, *half.graph.node]),
        proto.graph.name,
        proto.graph.input,
        proto.graph.output,
        [*constants, *half.graph.initializer],
    )
    return onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def trunk(nodes: Sequence[Any]) -> list[Any]:
    """The convolutions and every node on a path from one to another, in their order."""
    made: set[str] = set()  # results of a convolution or of a node behind one
    for node in nodes:
        if _is_convolution(node) or made.intersection(node.input):
            made.update(node.output)
    read: set[str] = set()  # inputs of a convolution or of a node before one
    for node in reversed(nodes):
        if _is_convolution(node) or read.intersection(node.output):
            read.update(node.input)
    return [n for n in nodes if _is_convolution(n) or (made.intersection(n.output) and read.intersection(n.output))]


def _is_convolution(node: Any) -> bool:
    return bool(node.op_type == "Conv")


def _extracted(proto: Any, inside: Sequence[Any], outside: Sequence[Any]) -> Any:
    """The nodes `inside` as a separate model, from their inputs to the results that nodes `outside` read."""
    import onnx

    constants = {weights.name for weights in proto.graph.initializer}
    made = dict.fromkeys(name for node in inside for name in node.output)
    given = dict.fromkeys(
        name for node in inside for name in node.input if name and name not in constants | made.keys()
    )
    read = {name for node in outside for name in node.input} | {output.name for output in proto.graph.output}
    return onnx.utils.Extractor(proto).extract_model(list(given), [name for name in made if name in read])


def _in_order(nodes: Sequence[Any]) -> list[Any]:
    """The nodes in topological order: each behind those whose results it reads."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output}
    reads = {i: [maker[name] for name in node.input if name in maker] for i, node in enumerate(nodes)}
    return [nodes[i] for i in TopologicalSorter(reads).static_order()]
