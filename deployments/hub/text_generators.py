"""Writers of texts from the hub: networks that turn a text into another, and networks that go on with one."""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.language import detect_language, language_name
from cluster.language_codes import base_code
from cluster.tasks import Option, Task
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.sentences import packed, sentences
from deployments.hub.tokens import Tokens, opened_tokenizer, text_of
from deployments.hub.translators import Told, told
from deployments.model import Call, Output

SUMMARY_TOKENS = 142  # longest summary of a network that names none: as BART's on CNN/DailyMail
SHORTEST = 32  # tokens of a summary that are granted to a shorter text, too
REPLY_TOKENS = 256
TRANSLATION_GROWTH = 2  # a translation takes at most twice the tokens of its text, and some
TOKENS_A_STEP = 32  # limits are rounded up, so that texts of about the same length run together
RELATIVE_WINDOW = 2048  # tokens of an instruction that a network without a table of positions still reads
PROMPT_TOKENS = 8192  # of a chat: longer material is cut, or reading it takes minutes on a CPU
ROWS_A_PASS = 8
# What a checkpoint may say about how its summaries are best searched for.
SEARCH = ("num_beams", "length_penalty", "no_repeat_ngram_size", "early_stopping")
UNSPACED = ("zh", "ja", "th", "lo", "km", "my")
# Ends of a turn, for checkpoints whose configuration knows only the end of a text.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")
SPEAKER, REPLIER = "User:", "Assistant:"
PLAIN_REPEATS = 4  # tokens in a row that a network without a template may write once only: greedy, it would go in circles
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)

Options = tuple[tuple[str, Any], ...]
"""Options of generate(), hashable: prompts with the same run together."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text for the network."""

    text: str
    longest: int  # tokens of what it writes
    told: Told = field(default_factory=Told)
    options: Options = ()


Work = Generator[list[Prompt], list[str], Output]
"""A call at work: it asks for some texts at once, gets them, asks for more, or gives its output."""


class SequenceToSequence(Checkpoint):
    """Summaries, translations, and texts rewritten as instructed. The works of a batch go in step, so their prompts run together."""

    max_batch = 8

    def __init__(self, model_id: str, network: Any, tokens: Tokens) -> None:
        super().__init__(network)
        self._model_id, self._network, self._tokens = model_id, network, tokens

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(AutoModelForSeq2SeqLM, card, folder)
        return cls(card.id, net, Tokens.of(net, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        works = [self._work(call) for call in calls]
        outputs: dict[int, Output] = {}
        answers: dict[int, list[str] | None] = dict.fromkeys(range(len(works)))
        while answers:
            asked: dict[int, list[Prompt]] = {}
            for place, answer in answers.items():
                try:
                    asked[place] = next(works[place]) if answer is None else works[place].send(answer)
                except StopIteration as done:
                    outputs[place] = done.value
            written = iter(self._written([prompt for prompts in asked.values() for prompt in prompts]))
            answers = {place: [next(written) for _ in prompts] for place, prompts in asked.items()}
        return [outputs[place] for place in range(len(calls))]

    def _work(self, call: Call) -> Work:
        match call.task:
            case Task.SUMMARIZATION:
                return self._summary(text_of(call).strip(), call.options.get(Option.LANGUAGE))
            case Task.TRANSLATION:
                return self._translation(text_of(call).strip(), base_code(str(call.options.get(Option.LANGUAGE, ""))))
            case Task.TEXT2TEXT_GENERATION:
                return self._rewriting(text_of(call).strip())
            case _:
                raise ModelError(f"{self._model_id} cannot do the task {call.task}")

    def _summary(self, text: str, wanted: object) -> Work:
        """A text longer than the window is summarized piece by piece, and what comes of it again, while that makes it shorter."""
        language = detect_language(text)
        if wanted and language and base_code(str(wanted)) != language:
            raise ModelError(f"{self._model_id} summarizes in the language of the text ({language_name(language)}), not in {wanted}")
        prefix, longest, least, options = self._summary_settings()
        room = self._room(prefix)
        pieces = packed(text, self._tokens.count, room)
        rounds = []
        while True:
            rounds.append(len(pieces))
            prompts = []
            for piece in pieces:
                most = min(longest, max(self._tokens.count(piece), SHORTEST))
                prompts.append(Prompt(prefix + piece, most, options=(*options, ("min_new_tokens", min(least, most // 3)))))
            summary = "\n".join((yield prompts)).strip()
            shorter = packed(summary, self._tokens.count, room)
            if len(pieces) == 1 or len(shorter) >= len(pieces):
                return self._said(summary, {"pieces": rounds[0]})
            pieces = shorter

    def _summary_settings(self) -> tuple[str, int, int, Options]:
        """Prefix, most and least tokens, and the search, from the generation settings or, as T5 has it, the task's in the configuration."""
        given = self._network.generation_config
        taught = (getattr(self._network.config, "task_specific_params", None) or {}).get("summarization", {})
        search = {name: taught.get(name, getattr(given, name, None)) for name in SEARCH}
        search["no_repeat_ngram_size"] = search["no_repeat_ngram_size"] or 3  # without it small networks repeat themselves
        longest = taught.get("max_length") or given.max_new_tokens or given.max_length or 0
        longest = longest if longest > 20 else SUMMARY_TOKENS  # 20 is the library's own, not the checkpoint's
        least = taught.get("min_length") or given.min_length or 0
        options = tuple((name, value) for name, value in search.items() if value is not None)
        return str(taught.get("prefix", "")), min(longest, self._longest), int(least), options

    def _translation(self, text: str, target: str) -> Work:
        """Sentence by sentence: these networks are trained on single sentences and drop some of several."""
        if not target:
            raise ModelError("a translation needs the language to translate into")
        source = detect_language(text)
        if source == target:
            return Output(text, {"language": target, "source_language": source})
        pair = told(self._model_id, self._network.config, self._tokens.tokenizer, source, target)
        room = self._room(pair.prefix)
        parts = [part for sentence in sentences(text) for part in packed(sentence, self._tokens.count, room)]
        asked = [part for part in parts if part.strip()]
        prompts = [Prompt(pair.prefix + self._tokens.plain(part).strip(), self._growth(part), pair) for part in asked]
        written = yield prompts
        joint = "" if target in UNSPACED else " "
        ends = ["\n" * part.count("\n", len(part.rstrip())) or joint for part in asked]
        whole = "".join(translated + end for translated, end in zip(written, ends, strict=True)).strip()
        return self._said(whole, {"language": target, "source_language": source})

    def _rewriting(self, text: str) -> Work:
        (written,) = yield [Prompt(text, min(REPLY_TOKENS, self._longest))]
        return self._said(written, {})

    def _written(self, prompts: Sequence[Prompt]) -> list[str]:
        """Prompts with the same settings run together, so that each gives what it gives alone."""
        groups: dict[Any, list[int]] = {}
        for place, prompt in enumerate(prompts):
            groups.setdefault((prompt.longest, prompt.told, prompt.options), []).append(place)
        written: dict[int, str] = {}
        for places in groups.values():
            for start in range(0, len(places), ROWS_A_PASS):
                chunk = places[start : start + ROWS_A_PASS]
                written.update(zip(chunk, self._generate([prompts[place] for place in chunk]), strict=True))
        return [written[place] for place in range(len(prompts))]

    def _generate(self, prompts: Sequence[Prompt]) -> list[str]:
        tokenizer, shared = self._tokens.tokenizer, prompts[0]
        if shared.told.source:
            tokenizer.src_lang = shared.told.source
        limits = {"truncation": True, "max_length": max(self._tokens.window, self._widest)}
        texts = [prompt.text for prompt in prompts]
        batch = tokenizer(texts, padding=True, return_tensors="pt", verbose=False, **limits).to(self._network.device)
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        options = {"min_length": 0, **dict(shared.options), **shared.told.decoding()}
        with torch.inference_mode():
            ids = self._network.generate(**batch, do_sample=False, max_new_tokens=shared.longest, **options)
        bare = [[token for token in row if token != shared.told.first] for row in ids.tolist()]  # M2M100's own decoding shows it
        return [str(text).strip() for text in tokenizer.batch_decode(bare, skip_special_tokens=True)]

    def _said(self, text: str, data: dict[str, Any]) -> Output:
        if not text:
            raise ModelError(f"{self._model_id} wrote nothing")
        return Output(text, data)

    def _room(self, prefix: str) -> int:
        """Tokens of a text beside its prefix and the marks."""
        before, after = self._tokens.marks
        return max(8, self._tokens.window - len(before) - len(after) - self._tokens.count(prefix) - 2)

    def _growth(self, part: str) -> int:
        steps = TRANSLATION_GROWTH * self._tokens.count(part) // TOKENS_A_STEP + 1
        return min(steps * TOKENS_A_STEP, self._longest)

    @property
    def _longest(self) -> int:
        """Tokens that the decoder has positions for, or fewer where the checkpoint says so."""
        config, said = self._network.config, self._network.generation_config.max_new_tokens
        names = ("max_decoder_position_embeddings", "max_position_embeddings")
        positions = next((found for name in names if (found := getattr(config, name, None))), RELATIVE_WINDOW)
        return min(int(positions) - 2, said or int(positions))

    @property
    def _widest(self) -> int:
        """What an instruction may take: all of it where positions are relative, for it must not lose its end."""
        return 0 if getattr(self._network.config, "max_position_embeddings", None) else RELATIVE_WINDOW


class CausalLanguageModel(Checkpoint):
    """Writes by going on with a prompt: a chat where the checkpoint has a template for one, plain text where it has none.

    Greedy, so the same prompt gives the same text. BlenderBot and other encoder-decoders, which read the prompt instead of going
    on with it, run here too.
    """

    max_batch = 4

    def __init__(self, model_id: str, network: Any, tokens: Tokens) -> None:
        super().__init__(network)
        self._model_id, self._network, self._tokens = model_id, network, tokens
        self._reads = bool(network.config.is_encoder_decoder)
        tokens.tokenizer.padding_side = "right" if self._reads else "left"

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        config = opened(transformers.AutoConfig, card, folder)
        net = network(AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM, card, folder)
        return cls(card.id, net, Tokens(opened_tokenizer(card, folder), net))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        rows = [{"input_ids": self._prompt(call)} for call in calls]
        written = [text for batch in self._tokens.passes(rows, self.max_batch) for text in self._generate(batch)]
        if not all(written):
            raise ModelError(f"{self._model_id} wrote nothing")
        return [Output(text) for text in written]

    def _prompt(self, call: Call) -> list[int]:
        """Ids of the prompt; too long material is cut at its end, so that what is asked stays whole."""
        material = "\n\n".join(text for source in call.inputs if (text := str(source).strip()))
        asked = str(call.options.get(Option.PROMPT, "")).strip()
        if not material and not asked:
            raise ModelError("the text is empty")
        room = min(PROMPT_TOKENS, self._tokens.window - self._reply_tokens)
        ids = self._ids(call.task, material, asked)
        if len(ids) > room:
            material = self._tokens.shortened(material, max(1, self._tokens.count(material) - (len(ids) - room) - 8))
            ids = self._ids(call.task, material, asked)
        return ids if len(ids) <= room else ids[-room:]

    def _ids(self, task: Task, material: str, asked: str) -> list[int]:
        text = self._tokens.plain("\n\n".join(part for part in (asked, material) if part))
        tokenizer = self._tokens.tokenizer
        if tokenizer.chat_template:
            message = [{"role": "user", "content": text}]
            options = {"add_generation_prompt": True, "return_dict": True, "enable_thinking": False}
            try:
                return list(tokenizer.apply_chat_template(message, **options)["input_ids"])
            except TemplateError as exc:
                raise ModelError(f"{self._model_id} cannot be used: its chat template fails ({exc})") from exc
        if task is Task.CONVERSATIONAL and not self._reads:
            text = f"{SPEAKER} {text}\n{REPLIER}"
        elif not self._reads:
            text = self._tokens.plain("\n\n".join(part for part in (material, asked) if part))
        return list(tokenizer(text, verbose=False)["input_ids"])

    def _generate(self, batch: Any) -> list[str]:
        tokenizer = self._tokens.tokenizer
        plain = {"stop_strings": [f"\n{SPEAKER}"], "tokenizer": tokenizer, "no_repeat_ngram_size": PLAIN_REPEATS}
        options = {} if tokenizer.chat_template else plain
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        limits = {"max_new_tokens": self._reply_tokens, "min_length": 0, "eos_token_id": self._ends, "pad_token_id": tokenizer.pad_token_id}
        with torch.inference_mode():
            ids = self._network.generate(**given, do_sample=False, **limits, **options)
        new = ids if self._reads else ids[:, batch["input_ids"].shape[1] :]
        written = tokenizer.batch_decode(new, skip_special_tokens=True)
        return [_THOUGHTS.sub("", text).partition(f"\n{SPEAKER}")[0].strip() for text in written]

    @property
    def _reply_tokens(self) -> int:
        said = self._network.generation_config.max_new_tokens
        return min(said or REPLY_TOKENS, self._tokens.window // 2)

    @cached_property
    def _ends(self) -> list[int]:
        """Ids that end a reply: the checkpoint's own, and in a chat every known end of a turn."""
        tokenizer, given = self._tokens.tokenizer, self._network.generation_config.eos_token_id
        own = given if isinstance(given, list) else [given]
        turns = [
            tokenizer.convert_tokens_to_ids(token) for token in TURN_ENDS if tokenizer.chat_template and token in tokenizer.get_vocab()
        ]
        return sorted({int(end) for end in (*own, tokenizer.eos_token_id, *turns) if end is not None})
