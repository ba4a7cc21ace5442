"""Tensors on their way into a network, and its scores on their way out. Knows no task."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch


def moved(value: Any, net: Any) -> Any:
    """A tensor to the network's device, and to its precision where it holds fractions; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(net.device, net.dtype if value.is_floating_point() else value.dtype)


def all_moved(features: Mapping[str, Any], net: Any) -> dict[str, Any]:
    return {name: moved(value, net) for name, value in features.items()}


def by_shape(inputs: Sequence[Mapping[str, torch.Tensor]], most: int | None = None) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Inputs of one shape as one batch, at most `most` in each, with their places in `inputs`. None is padded."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, one in enumerate(inputs):
        groups[tuple((name, tensor.shape) for name, tensor in one.items())].append(place)
    for group in groups.values():
        for start in range(0, len(group), most or len(group)):
            places = group[start : start + (most or len(group))]
            yield places, {name: torch.cat([inputs[place][name] for place in places]) for name in inputs[places[0]]}


def class_scores(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """(…, classes) in 0..1: each class by itself where several may hold at once, and where there is only one; else shares of 1."""
    several = config.problem_type == "multi_label_classification" or logits.shape[-1] == 1
    return logits.sigmoid() if several else logits.softmax(dim=-1)
