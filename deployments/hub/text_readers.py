"""Readers of texts from the hub: answers copied out of a text, masks filled, answers picked from a table."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from pandas import DataFrame
from transformers import AutoModelForMaskedLM, AutoModelForQuestionAnswering, TapasForQuestionAnswering

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.csv_tables import Table, aggregated
from deployments.hub.text_network import TextNetwork
from deployments.hub.tokens import Row, Tokens, asked_question, text_of
from deployments.model import Call, Output

ANSWER_TOKENS = 30  # the longest answer, as in SQuAD's own scripts
OVERLAP_TOKENS = 128  # of two windows: no answer stands at the edge of both
NO_ANSWER = "The text does not say."
MASKS = ("[MASK]", "<mask>", "[mask]", "<MASK>")  # as a planner or a person writes it
CANDIDATES = 5
TABLE_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NO_OPERATOR = "NONE"
CELL_THRESHOLD = 0.5  # as in TAPAS's own scripts


class ExtractiveReader(TextNetwork):
    """The span of a text that answers a question, over all windows of a long text (Devlin et al. 2018, arXiv:1810.04805, 4.2 and 4.3).

    A span's weight is the sum of its start and end logits. "No answer" stands for the first token (CLS); a window may say so for
    itself, so the least of the windows' weights competes with the best span. Scores are the softmax over all of them.
    """

    kind = AutoModelForQuestionAnswering
    needs_offsets = True
    max_batch = 8

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [text_of(call) for call in calls]
        overlap = min(OVERLAP_TOKENS, self._tokens.window // 4)
        questions = [self._tokens.question(asked_question(call)) for call in calls]
        encoded = [
            self._tokens.windows(question, self._tokens.plain(text), cut="only_second", overlap=overlap)
            for question, text in zip(questions, texts, strict=True)
        ]
        logits = iter(self._logits([row for each in encoded for row in self._tokens.rows_of(each)]))
        return [self._output(text, each, [next(logits) for _ in each["input_ids"]]) for text, each in zip(texts, encoded, strict=True)]

    def _logits(self, rows: Sequence[Row]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Start and end logits of each row, padding included."""
        for batch in self._tokens.passes(rows, self.max_batch):
            with torch.inference_mode():
                found = self._network(**batch)
            yield from zip(found.start_logits.float().cpu(), found.end_logits.float().cpu(), strict=True)

    def _output(self, text: str, encoded: Any, logits: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Output:
        weights, best, spans = [], None, []
        nothing = float("inf")
        for row, (start, end) in enumerate(logits):
            table = self._span_weights(encoded.sequence_ids(row), start, end)
            top = int(table.argmax())
            spans.append((float(table.flatten()[top]), row, *divmod(top, table.shape[1])))
            weights.append(table.flatten())
            ids = encoded["input_ids"][row]
            if (mark := self._tokens.tokenizer.cls_token_id) in ids:
                nothing = min(nothing, float(start[ids.index(mark)] + end[ids.index(mark)]))
        best = max(spans)
        every = torch.cat([*weights, torch.tensor([nothing if nothing != float("inf") else -float("inf")])])
        scores = every.softmax(dim=0)
        if nothing != float("inf") and nothing > best[0]:
            return Output(NO_ANSWER, {"answer": None, "score": round(float(scores[-1]), 4)})
        weight, row, first, last = best
        span = encoded["offset_mapping"][row][first][0], encoded["offset_mapping"][row][last][1]
        score = float((torch.tensor(weight) - every.logsumexp(dim=0)).exp())
        return _answer(text, *span, score)

    def _span_weights(self, sequence_ids: Sequence[int | None], start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """(tokens, tokens): the weight of the span from a row's to a column's token; -inf where there can be none."""
        length = len(sequence_ids)
        outside = torch.tensor([sequence != 1 for sequence in sequence_ids])
        table = start[:length, None] + end[None, :length]
        table = table.masked_fill(outside[:, None] | outside[None, :], -torch.inf)
        reach = torch.ones(length, length, dtype=torch.bool).triu().tril(ANSWER_TOKENS - 1)
        return table.masked_fill(~reach, -torch.inf)


class MaskFiller(TextNetwork):
    """The words that fit where a text has [MASK]. Each mask is read in the window around it, the others masked too."""

    kind = AutoModelForMaskedLM
    max_batch = 16

    @classmethod
    def check(cls, card: ModelCard, net: Any, tokens: Tokens) -> None:
        if tokens.tokenizer.mask_token is None:
            raise ModelError(f"{card.id} was not made for fill-mask: its tokenizer has no mask")

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [self._parts(call) for call in calls]
        rows = [self._rows(parts) for parts in texts]
        found = iter(self._candidates([row for each in rows for row in each]))
        return [_filled(parts, [next(found) for _ in each]) for parts, each in zip(texts, rows, strict=True)]

    def _parts(self, call: Call) -> list[str]:
        """The text between its masks."""
        text = text_of(call)
        for mask in MASKS:
            text = text.replace(mask, self._tokens.tokenizer.mask_token)
        if len(parts := text.split(self._tokens.tokenizer.mask_token)) == 1:
            raise ModelError("there is nothing to fill in: the text has no [MASK]")
        return parts

    def _rows(self, parts: Sequence[str]) -> list[tuple[Row, int]]:
        """For each mask a row that fits the window, and the mask's place in it."""
        mask, (before, after) = self._tokens.tokenizer.mask_token, self._tokens.marks
        ids = self._tokens.ids(mask.join(self._tokens.plain(part) for part in parts))
        room = self._tokens.window - len(before) - len(after)
        rows: list[tuple[Row, int]] = []
        for place in (at for at, token in enumerate(ids) if token == self._tokens.tokenizer.mask_token_id):
            start = max(0, min(place - room // 2, len(ids) - room))
            rows.append(({"input_ids": [*before, *ids[start : start + room], *after]}, len(before) + place - start))
        return rows

    def _candidates(self, rows: Sequence[tuple[Row, int]]) -> Iterator[list[tuple[str, float]]]:
        """The likeliest tokens of each row's mask with their probabilities."""
        places = iter([place for _, place in rows])
        for batch in self._tokens.passes([row for row, _ in rows], self.max_batch):
            with torch.inference_mode():
                logits = self._network(**batch).logits
            for row in logits:
                scores, ids = row[next(places)].float().softmax(dim=-1).topk(CANDIDATES)
                yield [(self._word(int(token)), float(score)) for token, score in zip(ids, scores, strict=True)]

    def _word(self, token: int) -> str:
        """As it is to be written: with ## where it goes on a word, as BERT does."""
        if (piece := str(self._tokens.tokenizer.convert_ids_to_tokens(token))).startswith("##"):
            return piece
        return str(self._tokens.tokenizer.decode([token])).strip()


class TableReader(TextNetwork):
    """Cells of a table that answer a question, counted, summed or averaged where the model says so (TAPAS, arXiv:2004.02349).

    A table longer than the window is read in pieces of whole rows.
    """

    kind = TapasForQuestionAnswering
    max_batch = 8

    def __init__(self, network: Any, tokens: Tokens) -> None:
        super().__init__(network.float(), tokens)  # its sums of small numbers do not survive half precision
        config = network.config
        self._most_rows = min(config.max_num_rows, config.type_vocab_sizes[2]) - 1
        self._most_columns = min(config.max_num_columns, config.type_vocab_sizes[1]) - 1

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        tables = [Table.read(text_of(call)) for call in calls]
        read = [self._pieces(asked_question(call), table) for call, table in zip(calls, tables, strict=True)]
        found = iter(self._readings([piece for pieces in read for piece in pieces]))
        return [self._output(table, [next(found) for _ in pieces]) for table, pieces in zip(tables, read, strict=True)]

    def _pieces(self, question: str, table: Table) -> list[tuple[Table, Row]]:
        """The table, or its halves' pieces, each with its encoding."""
        if len(table.header) > self._most_columns:
            raise ModelError(f"the table has {len(table.header)} columns, and this model reads {self._most_columns} at most")
        if len(table.rows) <= self._most_rows:
            encoded = self._tokens.tokenizer(DataFrame(list(table.rows), columns=list(table.header)), question)
            if len(encoded["input_ids"]) <= self._tokens.window:
                return [(table, encoded)]
        if len(table.rows) == 1:
            raise ModelError("a row of the table, its header and the question are too long together for this model")
        return [piece for half in table.halves() for piece in self._pieces(question, half)]

    def _readings(self, pieces: Sequence[tuple[Table, Row]]) -> Iterator[tuple[str, dict[tuple[int, int], float]]]:
        """For each piece the operator and the probabilities of its cells (row in the whole table, column)."""
        for start in range(0, len(pieces), self.max_batch):
            chunk = pieces[start : start + self.max_batch]
            batch = {name: _padded([row[name] for _, row in chunk]).to(self._network.device) for name in TABLE_INPUTS}
            with torch.inference_mode():
                found = self._network(**batch)
            for place, (table, row) in enumerate(chunk):
                operators = found.logits_aggregation
                operator = NO_OPERATOR if operators is None else self._operator(int(operators[place].argmax()))
                yield operator, _cells(table, row, found.logits[place].float().sigmoid().tolist())

    def _operator(self, place: int) -> str:
        labels = self._network.config.aggregation_labels or {}
        return str(labels.get(place, labels.get(str(place), NO_OPERATOR)))

    def _output(self, table: Table, readings: Sequence[tuple[str, dict[tuple[int, int], float]]]) -> Output:
        """The operator of the surest piece; cells of all pieces where they are counted or summed, else of that piece."""
        operator, surest = max(readings, key=lambda reading: max(reading[1].values(), default=0.0))
        scores = {cell: score for _, cells in readings for cell, score in cells.items()} if operator != NO_OPERATOR else surest
        chosen = sorted(cell for cell, score in scores.items() if score > CELL_THRESHOLD)
        if not chosen:
            return Output("The table does not say.", {"answer": None, "operator": operator, "cells": []})
        texts = [table.rows[row][column] for row, column in chosen]
        answer = ", ".join(texts) if operator == NO_OPERATOR else aggregated(operator, texts) or f"{operator} of {', '.join(texts)}"
        cells = [
            {"row": row + 1, "column": table.header[column], "text": table.rows[row][column], "score": round(scores[row, column], 4)}
            for row, column in chosen
        ]
        return Output(answer, {"answer": answer, "operator": operator, "cells": cells})


def _padded(rows: Sequence[Any]) -> torch.Tensor:
    """Zeros after the shorter rows: TAPAS's padding token, its token types, and its attention mask."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _cells(table: Table, row: Row, scores: Sequence[float]) -> dict[tuple[int, int], float]:
    """A cell's probability is the mean of its tokens'. Token types are (segment, column, row, …), columns and rows from 1."""
    tokens: dict[tuple[int, int], list[float]] = {}
    for (segment, column, line, *_), score in zip(row["token_type_ids"], scores, strict=False):
        if segment == 1 and column > 0 and line > 0:
            tokens.setdefault((table.first_row + line - 1, column - 1), []).append(score)
    return {cell: sum(each) / len(each) for cell, each in tokens.items()}


def _answer(text: str, start: int, end: int, score: float) -> Output:
    """Places in characters; offsets of some tokenizers take in the space before a word."""
    answer = text[start:end]
    start += len(answer) - len(answer.lstrip())
    answer = answer.strip()
    return Output(answer, {"answer": answer, "score": round(score, 4), "start": start, "end": start + len(answer)})


def _filled(parts: Sequence[str], masks: Sequence[Sequence[tuple[str, float]]]) -> Output:
    """The text with each mask's likeliest word; the candidates of each mask, and with one mask the texts that they give."""
    best = [candidates[0][0] for candidates in masks]
    data = []
    for place, candidates in enumerate(masks):
        written = [_joined(parts, [*best[:place], word, *best[place + 1 :]]) for word, _ in candidates]
        data.append(
            [{"token": word, "score": round(score, 4), "text": text} for (word, score), text in zip(candidates, written, strict=True)]
        )
    return Output(_joined(parts, best), {"masks": data})


def _joined(parts: Sequence[str], words: Sequence[str]) -> str:
    text = parts[0]
    for word, (_, after) in zip(words, pairwise(parts), strict=True):
        text = text.rstrip() + word[2:] if word.startswith("##") else text + word
        text += after
    return text
