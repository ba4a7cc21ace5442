"""Runs a TensorFlow.js graph model in torch: the few operations that CenterNet's graph is made of, one function each.

Tensors keep TensorFlow's layout (N, H, W, C); convolutions turn to (N, C, H, W) and back.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cluster.errors import ModelError

Attributes = Mapping[str, Any]
Operation = Callable[[Sequence[Tensor], Attributes], Tensor | Sequence[Tensor]]


class TfjsGraph:
    """One input, named outputs. Raises ModelError at construction when the graph has an operation that is not known here."""

    def __init__(self, description: Path) -> None:
        model = json.loads(description.read_text(encoding="utf-8"))
        self._nodes = list(_in_order(model["modelTopology"]["node"]))
        self._weights = dict(_weights(model["weightsManifest"], description.with_suffix(".bin").read_bytes()))
        given = {"Const", "Placeholder"}
        if unknown := sorted({node["op"] for node in self._nodes} - OPERATIONS.keys() - given):
            raise ModelError(f"{description.name} uses operations that are not known here: {', '.join(unknown)}")

    def run(self, picture: Tensor, outputs: Sequence[str]) -> list[Tensor]:
        values: dict[str, Sequence[Tensor]] = {name: (weight,) for name, weight in self._weights.items()}
        with torch.inference_mode():
            for node in self._nodes:
                values.setdefault(node["name"], self._result(node, picture, values))
        return [_value(values, name) for name in outputs]

    def _result(self, node: Mapping[str, Any], picture: Tensor, values: Mapping[str, Sequence[Tensor]]) -> Sequence[Tensor]:
        if node["op"] == "Placeholder":
            return (picture,)
        if node["op"] == "Const":
            return values[node["name"]]
        inputs = [_value(values, name) for name in node.get("input", ()) if not name.startswith("^")]
        result = OPERATIONS[node["op"]](inputs, node.get("attr", {}))
        return (result,) if isinstance(result, Tensor) else result


def _value(values: Mapping[str, Sequence[Tensor]], name: str) -> Tensor:
    node, _, position = name.partition(":")
    return values[node][int(position or 0)]


def _in_order(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Each node after those it reads."""
    by_name = {node["name"]: node for node in nodes}
    needs = {node["name"]: [name.lstrip("^").partition(":")[0] for name in node.get("input", ())] for node in nodes}
    for name in TopologicalSorter(needs).static_order():
        yield by_name[name]


def _weights(manifest: Sequence[Mapping[str, Any]], content: bytes) -> Iterator[tuple[str, Tensor]]:
    """Floats are stored in half precision (quantization dtype float16), integers in 32 bits, group after group."""
    start = 0
    for group in manifest:
        for weight in group["weights"]:
            stored = np.dtype(weight.get("quantization", {}).get("dtype", weight["dtype"])).newbyteorder("<")
            count = int(np.prod(weight["shape"], dtype=np.int64))
            array = np.frombuffer(content, stored, count, start).astype(weight["dtype"]).reshape(weight["shape"])
            start += count * stored.itemsize
            yield weight["name"], torch.from_numpy(array.copy())


def _numbers(attributes: Attributes, name: str) -> list[int]:
    return [int(number) for number in attributes[name]["list"]["i"]]


def _channels_first(picture: Tensor) -> Tensor:
    return picture.permute(0, 3, 1, 2)


def _channels_last(picture: Tensor) -> Tensor:
    return picture.permute(0, 2, 3, 1)


def _padded(picture: Tensor, kernel: Sequence[int], strides: Sequence[int], attributes: Attributes, fill: float = 0.0) -> Tensor:
    """(N, C, H, W) with TensorFlow's padding SAME, its odd pixel right and below, or VALID. The attribute is base64."""
    if base64.b64decode(attributes["padding"]["s"]) == b"VALID":
        return picture
    padding: list[int] = []
    for size, extent, stride in zip(picture.shape[:1:-1], kernel[::-1], strides[::-1], strict=True):
        missing = max((-(-size // stride) - 1) * stride + extent - size, 0)
        padding += [missing // 2, missing - missing // 2]
    return functional.pad(picture, padding, value=fill)


def _convolution(inputs: Sequence[Tensor], attributes: Attributes, depthwise: bool) -> Tensor:
    picture, kernel = _channels_first(inputs[0]), inputs[1]  # kernel (H, W, in, out), depthwise (H, W, channels, multiplier)
    strides = _numbers(attributes, "strides")[1:3]
    picture = _padded(picture, kernel.shape[:2], strides, attributes)
    if depthwise:
        filters = kernel.permute(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
    else:
        filters = kernel.permute(3, 2, 0, 1)
    groups = picture.shape[1] if depthwise else 1
    return _channels_last(functional.conv2d(picture, filters, stride=strides, groups=groups))


def _fused_convolution(inputs: Sequence[Tensor], attributes: Attributes, depthwise: bool) -> Tensor:
    result = _convolution(inputs, attributes, depthwise)
    for name in attributes["fused_ops"]["list"]["s"]:
        match base64.b64decode(name):
            case b"BiasAdd":
                result = result + inputs[2]
            case b"Relu":
                result = result.relu()
            case b"Relu6":
                result = functional.relu6(result)
            case other:
                raise ModelError(f"a convolution is fused with an unknown operation: {other!r}")
    return result


def _max_pool(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    kernel, strides = _numbers(attributes, "ksize")[1:3], _numbers(attributes, "strides")[1:3]
    picture = _padded(_channels_first(inputs[0]), kernel, strides, attributes, fill=-torch.inf)
    return _channels_last(functional.max_pool2d(picture, kernel, strides))


def _resize_bilinear(inputs: Sequence[Tensor], _attributes: Attributes) -> Tensor:
    """TensorFlow 1's rule, which torch lacks: neither half-pixel centres nor aligned corners."""
    picture, size = inputs[0], inputs[1].tolist()
    for dimension, target in zip((1, 2), size, strict=True):
        picture = _stretched(picture, dimension, target)
    return picture


def _stretched(picture: Tensor, dimension: int, target: int) -> Tensor:
    """Linear between neighbours, sample i at i * source / target."""
    source = picture.shape[dimension]
    places = torch.arange(target) * (source / target)
    before = places.floor().long()
    after = (before + 1).clamp(max=source - 1)
    share = (places - before).reshape([-1 if axis == dimension else 1 for axis in range(picture.dim())])
    return picture.index_select(dimension, before) * (1 - share) + picture.index_select(dimension, after) * share


def _strided_slice(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    values, begins, ends, strides = inputs[0], *(tensor.tolist() for tensor in inputs[1:4])
    mask = {name: int(attributes.get(name, {}).get("i", 0)) for name in ("begin_mask", "end_mask", "shrink_axis_mask")}
    index: list[slice | int] = []
    for axis, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if mask["shrink_axis_mask"] >> axis & 1:
            index.append(begin)
            continue
        start = None if mask["begin_mask"] >> axis & 1 else begin
        index.append(slice(start, None if mask["end_mask"] >> axis & 1 else end, stride))
    return values[tuple(index)]


def _gather(inputs: Sequence[Tensor], _attributes: Attributes) -> Tensor:
    values, places, axis = inputs[0], inputs[1], int(inputs[2])
    picked = values.index_select(axis, places.reshape(-1).long())
    return picked.reshape(*values.shape[:axis], *places.shape, *values.shape[axis + 1 :])


def _cast(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    types = {"DT_FLOAT": torch.float32, "DT_INT32": torch.int32, "DT_BOOL": torch.bool, "DT_INT64": torch.int64}
    return inputs[0].to(types[attributes["DstT"]["type"]])


OPERATIONS: dict[str, Operation] = {
    "Add": lambda x, _: x[0] + x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "FloorDiv": lambda x, _: x[0] // x[1],
    "FloorMod": lambda x, _: x[0] % x[1],
    "Equal": lambda x, _: x[0] == x[1],
    "Relu": lambda x, _: x[0].relu(),
    "Relu6": lambda x, _: functional.relu6(x[0]),
    "Sigmoid": lambda x, _: x[0].sigmoid(),
    "Identity": lambda x, _: x[0],
    "Mean": lambda x, a: x[0].mean(dim=x[1].reshape(-1).tolist(), keepdim=bool(a.get("keep_dims", {}).get("b"))),
    "ConcatV2": lambda x, _: torch.cat(list(x[:-1]), dim=int(x[-1])),
    "Reshape": lambda x, _: x[0].reshape(x[1].tolist()),
    "ExpandDims": lambda x, _: x[0].unsqueeze(int(x[1])),
    "TopKV2": lambda x, _: x[0].topk(int(x[1]), dim=-1),
    "Cast": _cast,
    "Conv2D": lambda x, a: _convolution(x, a, depthwise=False),
    "DepthwiseConv2dNative": lambda x, a: _convolution(x, a, depthwise=True),
    "_FusedConv2D": lambda x, a: _fused_convolution(x, a, depthwise=False),
    "FusedDepthwiseConv2dNative": lambda x, a: _fused_convolution(x, a, depthwise=True),
    "MaxPool": _max_pool,
    "ResizeBilinear": _resize_bilinear,
    "StridedSlice": _strided_slice,
    "GatherV2": _gather,
}
