"""Training many requests behind one prompt: the planner's constant prompt is computed once a step, and every request sees it and itself.

A pack is one row: the prompt's P tokens, then B requests padded to T tokens each. Positions go on after the prompt for each request, so
that what is learned is what the engine computes at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "shared_prompt"
PAD = 0
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of a request, behind the prompt, and of its plan with the end mark."""

    request: tuple[int, ...]
    plan: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.request) + len(self.plan)


@dataclass(frozen=True, slots=True)
class Pack:
    """One training step: `ids` and `positions` are 1 × (P + B·T), `targets` (P + B·T) with IGNORED where nothing is learned."""

    prompt: int  # P
    samples: int  # B
    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


def packed(prompt: Sequence[int], samples: Sequence[Sample]) -> Pack:
    longest = max(map(len, samples))
    ids, positions = [*prompt], [*range(len(prompt))]
    targets = [IGNORED] * len(prompt)
    for sample in samples:
        padding = longest - len(sample)
        ids += [*sample.request, *sample.plan, *[PAD] * padding]
        positions += range(len(prompt), len(prompt) + longest)
        # the token before each plan token foretells it
        targets += [*[IGNORED] * (len(sample.request) - 1), *sample.plan, IGNORED, *[IGNORED] * padding]
    return Pack(len(prompt), len(samples), torch.tensor([ids]), torch.tensor([positions]), torch.tensor(targets))


class SharedPrompt:
    """The attention of the pack at hand, as transformers' attention interface calls it. `pack` is set before each step."""

    def __init__(self) -> None:
        self.pack: Pack | None = None

    def register(self) -> None:
        AttentionInterface.register(ATTENTION, self.attend)

    def attend(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _mask: Any, scaling: float, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """query 1 × H × L × D, key and value 1 × G × L × D (G divides H) → 1 × L × H × D."""
        pack = self.pack
        if pack is None:
            raise RuntimeError("no pack is set")
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        constant = [each[:, :, : pack.prompt] for each in (query, key, value)]
        prompt = functional.scaled_dot_product_attention(constant[0], constant[1], constant[2], is_causal=True, scale=scaling)
        rows = [self._rows(each, pack) for each in (query, key, value)]
        seen_key, seen_value = (
            torch.cat([shared.expand(pack.samples, -1, -1, -1), own], 2) for shared, own in zip(constant[1:], rows[1:], strict=True)
        )
        length = rows[0].shape[2]
        mask = torch.ones(length, pack.prompt + length, dtype=torch.bool).tril(pack.prompt)
        requests = functional.scaled_dot_product_attention(rows[0], seen_key, seen_value, attn_mask=mask, scale=scaling)
        flat = requests.permute(0, 2, 1, 3).reshape(1, pack.samples * length, *requests.shape[1::2])
        return torch.cat([prompt.transpose(1, 2), flat], 1).contiguous(), None

    @staticmethod
    def _rows(states: torch.Tensor, pack: Pack) -> torch.Tensor:
        """The requests' part, 1 × H × B·T × D, as B × H × T × D."""
        _, heads, _, size = states.shape
        return states[0, :, pack.prompt :].reshape(heads, pack.samples, -1, size).transpose(0, 1)
