"""Text experts without generation: sentence embeddings (all-MiniLM-L6-v2) and named entities (spaCy)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.labels import in_words, labels_of, ranking
from deployments.model import Call, Computation, Output

if TYPE_CHECKING:
    from torch import Tensor

PASS_TOKENS = 384  # rows times the longest: more is no faster on a CPU, and memory stays flat
PIECE_TOKENS = 254  # the model was trained on 256 with its two marks; a longer text is cut and averaged
HYPOTHESIS = "This text is about {}."
# Cosines of one text to several labels lie within a few tenths; this temperature turns them into a readable ranking.
LABEL_TEMPERATURE = 0.05
# One prototype a class is the mean of its anchors.
SENTIMENTS = {
    "positive": (
        "I love it, it is wonderful and I am very happy.",
        "Excellent quality, works perfectly, highly recommended.",
        "What a great success, thank you so much!",
        "The best experience I have ever had.",
    ),
    "negative": (
        "I hate it, it is terrible and I am very disappointed.",
        "Awful quality, it broke, a complete waste of money.",
        "What a disaster, this is sad and upsetting.",
        "The worst experience I have ever had, I want a refund.",
    ),
    "neutral": (
        "The meeting takes place on Tuesday at ten o'clock.",
        "The report has twelve pages and describes the method.",
        "The box contains a cable and a manual.",
        "The train leaves from platform four.",
    ),
}
CURRENCY_SIGNS = "$€£¥"
BYTES_A_CHARACTER = 700  # that spaCy takes while it reads: measured on texts of 1,000 to 100,000 characters
PASS_CHARACTERS = 8_000  # texts times the longest: longer texts gain nothing from each other
ENTITY_PIECE_CHARACTERS = 100_000  # spaCy's own limit is 1,000,000; smaller pieces keep memory flat


class MiniLM(Computation):
    """Sentence embeddings, and the tasks that a cosine between them can do."""

    max_batch = 32

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        super().__init__()
        self._tokenizer, self._encoder = tokenizer, encoder
        import torch

        self._sentiments = torch.stack([self.embed(anchors).mean(dim=0) for anchors in SENTIMENTS.values()])

    @classmethod
    def load(cls, folder: Path) -> "MiniLM":
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        quiet: Any = logging.disable_progress_bar  # untyped upstream; in a replica's log the bar is litter
        quiet()
        return cls(AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval())

    def call_bytes(self, _call: Call) -> int:
        """Passes are of one size, whatever they are made of."""
        return 0

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [_texts(call) for call in calls]
        vectors = iter(self.embed([text for group in texts for text in group]))
        return [self._output(call, [next(vectors) for _ in group]) for call, group in zip(calls, texts, strict=True)]

    def _output(self, call: Call, vectors: Sequence["Tensor"]) -> Output:
        match call.task:
            case Task.SENTENCE_SIMILARITY:
                score = round(float(vectors[0] @ vectors[1]), 4)
                return Output(f"{score:.2f} (0 unrelated, 1 same meaning)", {"similarity": score})
            case Task.ZERO_SHOT_CLASSIFICATION:
                return _output(labels_of(call, 2), [float(vectors[0] @ label) for label in vectors[1:]])
            case Task.TEXT_CLASSIFICATION:
                return _output(tuple(SENTIMENTS), (self._sentiments @ vectors[0]).tolist())
            case _:
                raise ModelError(f"sentence embeddings cannot do the task {call.task}")

    def embed(self, texts: Sequence[str]) -> "Tensor":
        """(texts, 384) unit vectors. A long text is the mean of its pieces, weighted by their tokens."""
        import torch

        pieces = [self._pieces(text) for text in texts]
        flat = [piece for group in pieces for piece in group]
        vectors = self._encode(flat) * torch.tensor([[float(len(piece))] for piece in flat])
        parts = torch.split_with_sizes(vectors, [len(group) for group in pieces])
        sums = [part.sum(dim=0) for part in parts]
        return torch.nn.functional.normalize(torch.stack(sums))

    def _pieces(self, text: str) -> list[list[int]]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not tokens:
            raise ModelError("the text is empty")
        return [tokens[start : start + PIECE_TOKENS] for start in range(0, len(tokens), PIECE_TOKENS)]

    def _encode(self, pieces: Sequence[Sequence[int]]) -> "Tensor":
        """Mean of the token vectors, padding left out. Pieces of like length share a pass, so that a long one does not slow short ones."""
        import torch

        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        means: list[Tensor | None] = [None] * len(pieces)
        for places in passes([len(piece) + 2 for piece in pieces], PASS_TOKENS):
            marked = [{"input_ids": [first, *pieces[place], last]} for place in places]
            batch = self._tokenizer.pad(marked, return_tensors="pt")
            with torch.inference_mode():
                hidden = self._encoder(**batch).last_hidden_state
            weights = batch["attention_mask"].unsqueeze(-1).float()
            rows = torch.nn.functional.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1))
            for place, row in zip(places, rows, strict=True):
                means[place] = row
        return torch.stack([mean for mean in means if mean is not None])


class SpacyEntities(Computation):
    """Named entities with spaCy's English pipeline; only its entity recogniser is loaded."""

    max_batch = 32

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self._pipeline = pipeline

    @classmethod
    def load(cls, folder: Path) -> "SpacyEntities":
        import spacy

        unused = ("tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer")
        return cls(spacy.util.load_model(folder, exclude=unused))

    def call_bytes(self, call: Call) -> int:
        return BYTES_A_CHARACTER * min(len(str(call.inputs[0])), ENTITY_PIECE_CHARACTERS)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [str(call.inputs[0]) for call in calls]
        pieces = [(text, *piece) for text in range(len(texts)) for piece in _pieces_at_spaces(texts[text], ENTITY_PIECE_CHARACTERS)]
        entities: list[list[dict[str, Any]]] = [[] for _ in texts]
        for places in passes([len(piece) for _, _, piece in pieces], PASS_CHARACTERS):
            found = self._pipeline.pipe([pieces[place][2] for place in places], batch_size=len(places))
            for place, document in zip(places, found, strict=True):
                number, start, _ = pieces[place]
                spans = [(e.label_, start + e.start_char, start + e.end_char) for e in document.ents]
                entities[number] += [_entity(texts[number], *span) for span in spans]
        return [_entities_output(sorted(named, key=lambda entity: entity["start"])) for named in entities]


def passes(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Places in groups of like size, the smallest first. A group's count times its largest is at most `most`, where it is more than one."""
    groups: list[list[int]] = []
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        if groups and (len(groups[-1]) + 1) * sizes[place] <= most:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _entities_output(entities: list[dict[str, Any]]) -> Output:
    return Output(_grouped(entities) or "no named entities found", {"entities": entities})


def _texts(call: Call) -> list[str]:
    """The texts of a call whose vectors it needs: its inputs, then its labels as hypotheses."""
    texts = [str(text) for text in call.inputs]
    if call.task is Task.ZERO_SHOT_CLASSIFICATION:
        texts += [HYPOTHESIS.format(label) for label in labels_of(call, 2)]
    return texts


def _output(labels: Sequence[str], cosines: Sequence[float]) -> Output:
    import torch

    ranked = ranking(zip(labels, (torch.tensor(cosines) / LABEL_TEMPERATURE).softmax(dim=0).tolist(), strict=True))
    return Output(in_words(ranked), {"labels": ranked})


def _pieces_at_spaces(text: str, size: int) -> list[tuple[int, str]]:
    """(start, piece) with cuts after a white space where there is one, so that no word is cut."""
    pieces, start = [], 0
    while len(text) - start > size:
        cut = max(text.rfind(space, start, start + size) for space in " \n") + 1 or start + size
        cut = cut if cut > start else start + size
        pieces.append((start, text[start:cut]))
        start = cut
    return [*pieces, (start, text[start:])]


def _entity(text: str, label: str, start: int, end: int) -> dict[str, Any]:
    """spaCy leaves the currency sign before a sum out; a reader wants it."""
    if label == "MONEY" and start and text[start - 1] in CURRENCY_SIGNS:
        start -= 1
    return {"text": text[start:end], "label": label, "start": start, "end": end}


def _grouped(entities: Sequence[dict[str, Any]]) -> str:
    """PERSON: Angela Merkel; GPE: Berlin, Paris. Labels and names in order of their first mention, each once."""
    groups: dict[str, dict[str, None]] = {}
    for entity in entities:
        groups.setdefault(entity["label"], {})[" ".join(entity["text"].split())] = None
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in groups.items())
