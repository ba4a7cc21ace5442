"""Classifiers of texts from the hub: whole texts, their words, texts under given labels, and texts against a question."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.tensors import class_scores
from deployments.hub.text_network import TextNetwork
from deployments.hub.tokens import Row, Tokens, asked_question, text_of
from deployments.hub.words import Span, entities, grouped, words
from deployments.labels import in_words, labels_of, ranking
from deployments.model import Call, Output

SHOWN = 5  # labels that a person reads; the data have all
HYPOTHESIS = "This example is {}."  # what transformers' own pipeline takes, and the models' cards with it
OVERLAP_TOKENS = 64  # of two windows, so that no name is read without its surroundings


class _Classifier(TextNetwork):
    """A network with one logit vector a row."""

    kind: ClassVar[Any] = AutoModelForSequenceClassification
    max_batch = 16

    def logits(self, groups: Sequence[Sequence[Row]]) -> list[torch.Tensor]:
        """For each group of rows its logits, (rows, labels) or (rows, tokens, labels); the rows of all groups run together."""
        rows = [row for group in groups for row in group]
        with torch.inference_mode():
            found = iter([each for batch in self._tokens.passes(rows) for each in self._network(**batch).logits.float().cpu()])
        return [pad_sequence([next(found) for _ in group], batch_first=True) for group in groups]


class SequenceClassifier(_Classifier):
    """Labels of whole texts: sentiment, topic, language … as the checkpoint was trained. A long text's scores are its windows' mean."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        logits = self.logits([self._tokens.rows(text_of(call)) for call in calls])
        return [_output(self._labels, self._scores(each).mean(dim=0)) for each in logits]

    @property
    def _labels(self) -> list[str]:
        return [str(label) for _, label in sorted(self._network.config.id2label.items())]

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """As transformers' pipeline does: raw numbers of a regression, independent or exclusive probabilities of labels."""
        config = self._network.config
        return logits if config.problem_type == "regression" else class_scores(logits, config)


class EntailmentClassifier(_Classifier):
    """Sorts a text under labels it never saw: does the text entail "This example is <label>."? (Yin et al. 2019, arXiv:1909.00161)"""

    def __init__(self, network: Any, tokens: Tokens) -> None:
        super().__init__(network, tokens)
        self._entailed = next(i for i, label in network.config.id2label.items() if _says_entailed(label))

    @classmethod
    def check(cls, card: ModelCard, net: Any, tokens: Tokens) -> None:
        if not any(map(_says_entailed, net.config.id2label.values())):
            labels = ", ".join(map(str, list(net.config.id2label.values())[:SHOWN]))
            raise ModelError(f"{card.id} was not made for zero-shot-classification: none of its labels is entailment, they are {labels}")

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        labels = [labels_of(call, 2) for call in calls]
        pairs = [(text_of(call), label) for call, asked in zip(calls, labels, strict=True) for label in asked]
        logits = iter(self.logits([self._rows(*pair) for pair in pairs]))
        return [_output(asked, self._scores([next(logits) for _ in asked])) for asked in labels]

    def _rows(self, text: str, label: str) -> list[Row]:
        return self._tokens.pair_rows(text, self._tokens.question(HYPOTHESIS.format(label)), "only_first")

    def _scores(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """Softmax over the labels' entailment logits in each window of the text, then the windows' mean."""
        by_window = torch.stack([label[:, self._entailed] for label in _as_long_as_the_shortest(logits)], dim=-1)
        return by_window.softmax(dim=-1).mean(dim=0)


class CrossEncoder(_Classifier):
    """Ranks the lines of a text by how well each answers a question. A long line counts as its best window does."""

    @classmethod
    def check(cls, card: ModelCard, net: Any, tokens: Tokens) -> None:
        if net.config.num_labels > 2:
            raise ModelError(f"{card.id} was not made for text-ranking: it has {net.config.num_labels} labels instead of one score")

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        lines = [[line.strip() for line in text_of(call).splitlines() if line.strip()] for call in calls]
        questions = [self._tokens.question(asked_question(call)) for call in calls]
        pairs = [(question, line) for question, each in zip(questions, lines, strict=True) for line in each]
        logits = iter(self.logits([self._tokens.pair_rows(question, line, "only_second") for question, line in pairs]))
        return [_ranked([(line, self._score(next(logits))) for line in each]) for each in lines]

    def _score(self, logits: torch.Tensor) -> float:
        """One logit, or the second of two (no, yes)."""
        scores = logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(dim=-1)
        return float(scores[:, -1].max())


class TokenClassifier(_Classifier):
    """Labels of words: names, parts of speech, personal data … as the checkpoint was trained. Windows of a long text overlap."""

    kind = AutoModelForTokenClassification
    needs_offsets = True

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [text_of(call) for call in calls]
        encoded = [self._tokens.windows(self._tokens.plain(text), cut="only_first", overlap=self._overlap) for text in texts]
        logits = self.logits([self._tokens.rows_of(each) for each in encoded])
        return [self._output(*each) for each in zip(texts, encoded, logits, strict=True)]

    @property
    def _overlap(self) -> int:
        return min(OVERLAP_TOKENS, self._tokens.window // 4)

    def _output(self, text: str, encoded: Any, logits: torch.Tensor) -> Output:
        """A word's label is that of its first token, as these models are trained."""
        found: list[tuple[Span, str, float]] = []
        tokens = self._tokens_seen_best(encoded, logits)
        place = 0
        for word in words(text):
            while place < len(tokens) and tokens[place][0][1] <= word[0]:
                place += 1
            if place < len(tokens) and tokens[place][0][0] < word[1]:
                label, score = tokens[place][1:]
                found.append((word, label, score))
        spotted = entities(text, found)
        return Output(grouped(spotted) or "nothing of what this model looks for was found", {"entities": spotted})

    def _tokens_seen_best(self, encoded: Any, logits: torch.Tensor) -> list[tuple[Span, str, float]]:
        """Each token once, with label and score from the window in which it stands farthest from an edge."""
        names = self._network.config.id2label
        scores, labels = logits.softmax(dim=-1).max(dim=-1)
        best: dict[tuple[Span, int], tuple[int, str, float]] = {}
        for row, offsets in enumerate(encoded["offset_mapping"]):
            for at, (start, end) in enumerate(offsets):
                # The id, too: sentencepiece's word mark may stand at the same place as the letter after it.
                token, depth = ((start, end), encoded["input_ids"][row][at]), min(at, len(offsets) - 1 - at)
                if start < end and depth > best.get(token, (-1,))[0]:
                    best[token] = (depth, str(names[int(labels[row, at])]), float(scores[row, at]))
        return sorted(((span, label, score) for (span, _), (_, label, score) in best.items()), key=lambda token: token[0])


def _output(labels: Sequence[str], scores: torch.Tensor) -> Output:
    ranked = ranking(zip(labels, scores.tolist(), strict=True))
    return Output(in_words(ranked[:SHOWN]), {"labels": ranked})


def _ranked(lines: Sequence[tuple[str, float]]) -> Output:
    """Best first; `line` counts from 1."""
    order = sorted(range(len(lines)), key=lambda place: -lines[place][1])
    ranking = [{"text": lines[place][0], "score": round(lines[place][1], 4), "line": place + 1} for place in order]
    return Output("\n".join(lines[place][0] for place in order), {"ranking": ranking})


def _says_entailed(label: object) -> bool:
    return str(label).lower().startswith("entail")


def _as_long_as_the_shortest(groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A longer label leaves less room, so the same text may fill one window more; that last bit is left out."""
    least = min(len(group) for group in groups)
    return [group[:least] for group in groups]
