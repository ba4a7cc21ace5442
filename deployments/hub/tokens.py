"""Texts as a network of tokens reads them: its tokenizer, its window, and padded batches that fit. Knows no task."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Option
from deployments.hub.checkpoint import opened
from deployments.model import Call

ROWS_A_PASS = 16
TOKENS_A_PASS = 16_384  # rows times length: what a pass may take in memory stays flat when a window is wide
UNBOUNDED = 1_000_000  # a tokenizer without a limit says 1e30
WINDOW = 512  # of a network that names none
_CONTROL = re.compile(r"[<\[|_]")  # what no word that people write has: a special token without it is left alone
QUESTION_SHARE = 2  # a question takes at most half of the window

Row = Mapping[str, Any]  # one text or pair: input_ids, and token_type_ids where the network wants them


class Tokens:
    """The tokenizer of a network that is loaded. `window` counts the marks at a row's ends, too."""

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self.tokenizer = tokenizer
        self.window = _window(tokenizer, network)
        self._device = network.device
        if getattr(network.config, "pad_token_id", None) is None:
            network.config.pad_token_id = tokenizer.pad_token_id

    @classmethod
    def of(cls, network: Any, card: ModelCard, folder: Path) -> "Tokens":
        return cls(opened_tokenizer(card, folder), network)

    def count(self, text: str) -> int:
        """Tokens of a text without the marks."""
        return len(self.ids(text))

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def plain(self, text: str) -> str:
        """The text with control tokens (such as `</s>`) that stand in it blanked out; characters keep their places."""
        for token in self._controls:
            text = text.replace(token, " " * len(token))
        return text

    def rows(self, text: str) -> list[Row]:
        """The text in one row, or, when it is longer than the window, in several without overlap."""
        ids, (before, after) = self.ids(self.plain(text)), self.marks
        room = self.window - len(before) - len(after)
        return [{"input_ids": [*before, *ids[start : start + room], *after]} for start in range(0, len(ids), room)]

    def windows(self, text: str, pair: str | None = None, *, cut: str, overlap: int) -> Any:
        """A transformers BatchEncoding with a row per window, offsets included, of a tokenizer that knows offsets.

        `cut` names what is cut when it is too long: "only_first" (the text) or "only_second" (the pair).
        """
        return self.tokenizer(
            *((text,) if pair is None else (text, pair)),
            **{"truncation": cut, "max_length": self.window, "stride": overlap},
            **{"return_overflowing_tokens": True, "return_offsets_mapping": True, "verbose": False},
        )

    def pair_rows(self, text: str, pair: str, cut: str) -> list[Row]:
        """Rows of a text and its pair; that of the two that `cut` names runs over several rows when it is long."""
        text, pair = self.plain(text), self.plain(pair)
        if not self.tokenizer.is_fast:
            encoded = self.tokenizer(text, pair, truncation=cut, max_length=self.window, verbose=False)
            return [{name: encoded[name] for name in self.tokenizer.model_input_names if name in encoded}]
        return self.rows_of(self.windows(text, pair, cut=cut, overlap=0))

    def rows_of(self, encoded: Any) -> list[Row]:
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        return [{name: encoded[name][place] for name in names} for place in range(len(encoded["input_ids"]))]

    def shortened(self, text: str, tokens: int) -> str:
        """The first `tokens` tokens of the text."""
        ids = self.ids(text)
        if len(ids) <= tokens:
            return text
        if self.tokenizer.is_fast:
            offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
            return text[: offsets[tokens - 1][1]]
        return str(self.tokenizer.decode(ids[:tokens], skip_special_tokens=True))

    def question(self, text: str) -> str:
        """A question, plain, cut where it would leave no room for what it is asked about."""
        return self.shortened(self.plain(text), self.window // QUESTION_SHARE)

    def passes(self, rows: Sequence[Row], most: int = ROWS_A_PASS) -> Iterator[Any]:
        """Padded batches on the network's device, in order, each small enough for one pass."""
        start = 0
        while start < len(rows):
            taken, longest = 0, 0
            for row in rows[start : start + most]:
                longest = max(longest, len(row["input_ids"]))
                if taken and (taken + 1) * longest > TOKENS_A_PASS:
                    break
                taken += 1
            batch = self.tokenizer.pad([dict(row) for row in rows[start : start + taken]], return_tensors="pt", verbose=False)
            yield batch.to(self._device)
            start += taken

    @cached_property
    def marks(self) -> tuple[list[int], list[int]]:
        """Ids that the tokenizer puts before and after a text."""
        whole, bare = list(self.tokenizer("a")["input_ids"]), self.ids("a")
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return [], []

    @cached_property
    def _controls(self) -> tuple[str, ...]:
        return tuple(token for token in self.tokenizer.all_special_tokens if _CONTROL.search(token))


def opened_tokenizer(card: ModelCard, folder: Path, **options: Any) -> Any:
    """The checkpoint's tokenizer, padding on the right, with a pad token. Raises ModelError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Marian's asks for a library that it does without
        tokenizer = opened(transformers.AutoTokenizer, card, folder, **options)
    refuse_without_vocabulary(tokenizer, card)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    return tokenizer


def refuse_without_vocabulary(tokenizer: Any, card: ModelCard) -> None:
    """Where the files are missing, transformers 5 makes an empty tokenizer."""
    if len(tokenizer) - len(tokenizer.all_special_tokens) < 2:
        raise ModelError(f"{card.id} could not be loaded: it comes without the vocabulary of its tokenizer")


def text_of(call: Call, place: int = 0) -> str:
    """An input of a call. Raises ModelError when there is nothing in it."""
    text = str(call.inputs[place])
    if not text.strip():
        raise ModelError("the text is empty")
    return text


def asked_question(call: Call) -> str:
    """Raises ModelError when there is none."""
    question = str(call.options.get(Option.QUESTION, "")).strip()
    if not question:
        raise ModelError("the question is empty")
    return question


def _window(tokenizer: Any, network: Any) -> int:
    """The smaller of what the tokenizer and the network's position table allow.

    RoBERTa and its kin count positions from their padding token on, so the first rows of the table are never used.
    """
    config = network.config.get_text_config()
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < UNBOUNDED else []
    for name in ("max_position_embeddings", "max_encoder_position_embeddings"):
        if (positions := getattr(config, name, None)) and positions > 0:
            limits.append(positions - _unused_positions(network))
    return min(limits, default=WINDOW)


def _unused_positions(network: torch.nn.Module) -> int:
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0
