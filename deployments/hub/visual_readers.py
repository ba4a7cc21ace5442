"""Questions and orders about one picture: visual question answering, document question answering, vision-language chat."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import transformers
from transformers.pipelines.document_question_answering import DocumentQuestionAnsweringPipeline

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Option, Task
from deployments.hub.checkpoint import Checkpoint, network
from deployments.hub.page_words import around, page_words
from deployments.hub.picture_writers import NEVER_READ, PictureWriter, generated, opened_processor, prepared, texts
from deployments.hub.pictures import image_processor
from deployments.hub.tokens import opened_tokenizer
from deployments.model import Call, Computation, Output
from deployments.vision import Ocr, open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

TOP = 5
ANSWER_TOKENS = 32  # where the checkpoint sets no limit
MAX_QUESTION_CHARACTERS = 300  # at most as many tokens: what leaves a document reader room for the document
MAX_ANSWER_WORDS = 15  # as in transformers' pipeline
WINDOW_OVERLAP_TOKENS = 128  # of the pieces that a long document is read in
# How a question is put to networks that were trained with one form; all others get it as it is.
QUESTION_FORMS = {"blip-2": "Question: {} Answer:", "paligemma": "answer en {}"}

Answer = Callable[[Sequence["Image"], Sequence[str]], list[Output]]


class VisualReader(Checkpoint):
    """Answers a question about a photograph."""

    def __init__(self, net: Any, answer: Answer, max_batch: int) -> None:
        super().__init__(net)
        self._answer, self.max_batch = answer, max_batch

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network((transformers.AutoModelForVisualQuestionAnswering, transformers.AutoModelForImageTextToText), card, folder)
        match net.config.model_type:
            case "blip":
                return cls(net, _Blip(net, opened_processor(net.config, card, folder)), 8)
            case "vilt":
                return cls(net, _Vilt(net, opened_processor(net.config, card, folder)), 8)
            case "git":
                return cls(net, _Git(net, opened_processor(net.config, card, folder)), 1)
        return cls(net, _Told(PictureWriter.load(net, card, folder)), 1)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        questions = [asked(call, Option.QUESTION) for call in calls]
        return self._answer([open_picture(Path(call.inputs[0])) for call in calls], questions)


class _Blip:
    """BLIP (Li et al., arXiv 2201.12086) writes the answer."""

    def __init__(self, net: Any, processor: Any) -> None:
        self._network, self._processor = net, processor

    def __call__(self, pictures: Sequence["Image"], questions: Sequence[str]) -> list[Output]:
        """Questions of one length together: the decoder looks at a padded question's padding too (transformers 5.19)."""
        longest = self._network.config.text_config.max_position_embeddings
        tokens = self._processor.tokenizer(list(questions), truncation=True, max_length=longest)["input_ids"]
        groups: dict[int, list[int]] = defaultdict(list)
        for place, ids in enumerate(tokens):
            groups[len(ids)].append(place)
        answers: dict[int, Output] = {}
        for places in groups.values():
            pixels = prepared(self._processor.image_processor, self._network, images=[pictures[place] for place in places])
            questioned = torch.tensor([tokens[place] for place in places], device=self._network.device)
            features = {**pixels, "input_ids": questioned}
            written = texts(self._processor.tokenizer, generated(self._network, features, ANSWER_TOKENS))
            answers.update(zip(places, map(_answered, written), strict=True))
        return [answers[place] for place in range(len(pictures))]


class _Vilt:
    """ViLT (Kim et al., arXiv 2102.03334) chooses among the answers that it was trained on; each has its own probability."""

    def __init__(self, net: Any, processor: Any) -> None:
        self._network, self._processor = net, processor

    def __call__(self, pictures: Sequence["Image"], questions: Sequence[str]) -> list[Output]:
        longest = self._network.config.max_position_embeddings
        options = {"padding": True, "truncation": True, "max_length": longest}
        features = prepared(self._processor, self._network, images=list(pictures), text=list(questions), **options)
        with torch.inference_mode():
            scores = self._network(**features).logits.float().sigmoid()
        best = scores.topk(min(TOP, scores.shape[1]), dim=1)
        names = self._network.config.id2label
        rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        answers = [[{"answer": names[i], "score": round(s, 4)} for s, i in zip(*row, strict=True)] for row in rows]
        return [Output(str(row[0]["answer"]), {**row[0], "answers": row}) for row in answers]


class _Git:
    """GIT (Wang et al., arXiv 2205.14100) goes on writing after the question."""

    def __init__(self, net: Any, processor: Any) -> None:
        self._network, self._processor = net, processor

    def __call__(self, pictures: Sequence["Image"], questions: Sequence[str]) -> list[Output]:
        return [self._read(*pair) for pair in zip(pictures, questions, strict=True)]

    def _read(self, picture: "Image", question: str) -> Output:
        tokenizer = self._processor.tokenizer
        room = self._network.config.max_position_embeddings - ANSWER_TOKENS - 1
        ids = [tokenizer.cls_token_id, *tokenizer(question, add_special_tokens=False)["input_ids"][:room]]
        pixels = prepared(self._processor.image_processor, self._network, images=[picture])
        features = {**pixels, "input_ids": torch.tensor([ids], device=self._network.device)}
        written = generated(self._network, features, ANSWER_TOKENS)[:, len(ids) :]
        return _answered(texts(tokenizer, written)[0])


class _Told:
    """Any other network that writes about a picture as told."""

    def __init__(self, writer: PictureWriter) -> None:
        self._writer = writer
        self._form = "{}" if writer.chats else QUESTION_FORMS.get(writer.network.config.model_type, "{}")

    def __call__(self, pictures: Sequence["Image"], questions: Sequence[str]) -> list[Output]:
        pairs = zip(pictures, questions, strict=True)
        return [_answered(self._writer.write(picture, self._form.format(question))) for picture, question in pairs]


class DocumentReader(Checkpoint):
    """Answers a question about a page: Donut reads the pixels, LayoutLM the words and places that OCR finds."""

    def __init__(self, net: Any, read: Callable[[Path, str], Output]) -> None:
        super().__init__(net)
        self._read = read

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        kinds = (transformers.AutoModelForDocumentQuestionAnswering, transformers.AutoModelForImageTextToText)
        net = network(kinds, card, folder, unread=NEVER_READ)
        if net.config.model_type in ("layoutlm", "layoutlmv2", "layoutlmv3"):
            return cls(net, _Layout.load(net, card, folder, Ocr.load(torch.get_num_threads())))
        if net.config.model_type != "vision-encoder-decoder":
            writer = PictureWriter.load(net, card, folder)
            return cls(net, lambda path, question: _answered(writer.write(open_picture(path), question)))
        if net.config.encoder.model_type != "donut-swin":
            raise ModelError(f"{card.id} was not made for {' or '.join(card.tasks)}: it takes no question")
        return cls(net, _Donut(net, image_processor(card, folder, net.config), opened_tokenizer(card, folder)))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._read(Path(call.inputs[0]), asked(call, Option.QUESTION)[:MAX_QUESTION_CHARACTERS]) for call in calls]


class _Donut:
    """Donut (Kim et al., arXiv 2111.15664), trained on DocVQA with the question among the decoder's first tokens."""

    def __init__(self, net: Any, prepare: Any, tokenizer: Any) -> None:
        self._network, self._prepare, self._tokenizer = net, prepare, tokenizer

    def __call__(self, path: Path, question: str) -> Output:
        question = re.sub(r"</?s_\w+>", " ", question)
        prompt = f"<s_docvqa><s_question>{question}</s_question><s_answer>"
        given = self._tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        room = self._network.config.decoder.max_position_embeddings - given.shape[1]
        if room < 2:
            raise ModelError(f"the question is too long for this model, which takes {given.shape[1] + room} tokens with the answer")
        features = prepared(self._prepare, self._network, images=[open_picture(path)])
        options = {"decoder_input_ids": given.to(self._network.device), "max_length": None}
        written = generated(self._network, {**features, **options}, min(room, 2 * ANSWER_TOKENS))
        (answer,) = self._tokenizer.batch_decode(written[:, given.shape[1] :])
        answer = answer.partition("</s_answer>")[0]
        for mark in filter(None, (self._tokenizer.eos_token, self._tokenizer.pad_token)):
            answer = answer.replace(mark, "")
        return _answered(re.sub(r"</?s_\w+>", " ", answer).strip())


class _Layout:
    """LayoutLM (Xu et al., arXiv 1912.13318) and its third version point at the words that answer."""

    def __init__(self, pipeline: Any, ocr: Computation, window_tokens: int) -> None:
        self._pipeline, self._ocr, self._window_tokens = pipeline, ocr, window_tokens

    @classmethod
    def load(cls, net: Any, card: ModelCard, folder: Path, ocr: Computation) -> Self:
        tokenizer, prepare = opened_tokenizer(card, folder), None
        if net.config.model_type != "layoutlm":
            prepare = image_processor(card, folder, net.config)
            prepare.apply_ocr = False  # with Tesseract, that is
        kind: Any = _LayoutPipeline  # untyped upstream
        pipeline = kind(model=net, tokenizer=tokenizer, image_processor=prepare, device=net.device)
        # RoBERTa's positions begin at 2.
        return cls(pipeline, ocr, min(tokenizer.model_max_length, net.config.max_position_embeddings - 2))

    def __call__(self, path: Path, question: str) -> Output:
        (found,) = self._ocr.compute([Call(Task.IMAGE_TO_TEXT, (path,))])
        picture = open_picture(path)
        words = page_words(found.data["lines"])
        document: dict[str, Any] = {"question": question, "word_boxes": [(word.text, word.on_page(*picture.size)) for word in words]}
        if self._pipeline.image_processor is not None:
            document["image"] = picture
        options = {"max_seq_len": self._window_tokens, "doc_stride": WINDOW_OVERLAP_TOKENS, "max_answer_len": MAX_ANSWER_WORDS}
        answers = self._pipeline(document, **options)
        if not answers:
            raise ModelError("the document holds no answer to the question")
        best = answers[0]
        box = around(words[best["start"] : best["end"] + 1])
        return Output(best["answer"], {"answer": best["answer"], "score": round(best["score"], 4), "box": box})


class _LayoutPipeline(DocumentQuestionAnsweringPipeline):
    """Transformers' own, which serves LayoutLMv3 as if it were LayoutLMv2 (5.19): the third version has another name for the
    pixels, and scores its patches of the picture behind the tokens."""

    # Upstream's own parents name these arguments differently.
    def _forward(self, model_inputs: Any, **options: Any) -> Any:  # type: ignore[override]
        if self.model.config.model_type == "layoutlmv3":
            model_inputs["pixel_values"] = model_inputs.pop("image")
        forward: Any = super()._forward
        found = forward(model_inputs, **options)
        tokens = model_inputs["input_ids"].shape[1]
        return {**found, **{name: found[name][:, :tokens] for name in ("start_logits", "end_logits")}}


class VisionLanguageModel(Checkpoint):
    """Follows an instruction about a picture."""

    def __init__(self, writer: PictureWriter) -> None:
        super().__init__(writer.network)
        self._writer = writer

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(PictureWriter.load(network(transformers.AutoModelForImageTextToText, card, folder), card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._follow(open_picture(Path(call.inputs[0])), asked(call, Option.PROMPT)) for call in calls]

    def _follow(self, picture: "Image", prompt: str) -> Output:
        text = self._writer.write(picture, prompt)
        return Output(text, {"text": text})


def asked(call: Call, option: Option) -> str:
    """The question or the prompt. Raises ModelError when there is none."""
    text = str(call.options.get(option, "")).strip()
    if not text:
        raise ModelError(f"{call.task} needs a {option}, and it is empty")
    return text


def _answered(text: str) -> Output:
    if not text:
        raise ModelError("the model gave no answer")
    return Output(text, {"answer": text})
