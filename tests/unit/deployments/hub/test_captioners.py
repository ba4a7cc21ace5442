import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from cluster.tasks import Task
from deployments.hub.captioners import ORDER, _Donut
from deployments.model import Output
from deployments.vision import open_picture
from tests.tiny.multimodal_runs import Bench, keys_of
from tests.tiny.runs import opened, run

BLIP, VIT_GPT2, TROCR, DONUT, SMOLVLM = (f"image-to-text{kind}" for kind in ("", "/vit-gpt2", "/trocr", "/donut", "/smolvlm"))
MARKS = ("[CLS]", "[SEP]", "[PAD]", "[DEC]", "<|endoftext|>", "</s>", "<s>", "<pad>", "<image>", "<end_of_utterance>")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("captioners"))


@pytest.mark.parametrize("key", keys_of(Task.IMAGE_TO_TEXT))
def test_a_caption_is_words_without_marks_and_a_batch_is_as_single_calls(bench: Bench, key: str) -> None:
    (reply,) = bench.give(key, bench.picture(1))
    assert reply.data["text"] == reply.value
    assert str(reply.value).strip()
    assert not any(mark in str(reply.value) for mark in MARKS)
    bench.assert_a_batch_is_as_single_calls(key)


def test_blip_writes_what_its_own_class_does(bench: Bench) -> None:
    folder, path = bench.place(BLIP), bench.picture(1)
    net = transformers.BlipForConditionalGeneration.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    with torch.inference_mode():
        written = net.generate(**processor(images=open_picture(path), return_tensors="pt"), max_new_tokens=64, do_sample=False)
    assert bench.give(BLIP, path)[0].value == processor.decode(written[0], skip_special_tokens=True).strip()


def test_the_beams_and_the_length_of_the_checkpoint_stand(bench: Bench) -> None:
    folder, path = bench.place(VIT_GPT2), bench.picture(1)
    net = transformers.VisionEncoderDecoderModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(open_picture(path), return_tensors="pt")
    with torch.inference_mode():
        written = net.generate(**pixels, num_beams=4, max_length=16, do_sample=False, pad_token_id=0)
    assert bench.give(VIT_GPT2, path)[0].value == tokenizer.decode(written[0], skip_special_tokens=True).strip()


def test_a_chat_model_is_told_to_describe_and_the_order_is_not_in_its_reply(bench: Bench) -> None:
    value = str(bench.give(SMOLVLM, bench.picture(1))[0].value)
    assert ORDER not in value
    assert "Assistant:" not in value


def test_a_decoder_that_is_silent_about_its_marks_gets_the_tokenizers(bench: Bench) -> None:
    copied = bench.copy(VIT_GPT2)
    (copied / "generation_config.json").unlink()
    config = json.loads((copied / "config.json").read_text())
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id", "bos_token_id"):
        config.pop(name, None)
    (copied / "config.json").write_text(json.dumps(config))
    (reply,) = run(opened(Task.IMAGE_TO_TEXT, copied), Task.IMAGE_TO_TEXT, bench.picture(1))
    assert isinstance(reply, Output), reply


class _Writing:
    """A network that writes the tokens it was given, whatever it sees."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        self.config = SimpleNamespace(decoder=SimpleNamespace(max_position_embeddings=64, **ends))
        self.generation_config = SimpleNamespace(decoder_start_token_id=0, max_length=None, max_new_tokens=None, **ends)

    def generate(self, **_: Any) -> torch.Tensor:
        return torch.tensor([self._tokens])


def test_the_fields_that_donut_reads_become_json(bench: Bench) -> None:
    folder = bench.place(DONUT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokens = tokenizer("<s_docvqa><s_name>Ada</s_name></s>", add_special_tokens=False)["input_ids"]
    (reply,) = _Donut(_Writing(tokens), prepare, tokenizer)([open_picture(bench.picture(1))])
    assert json.loads(str(reply.value)) == {"name": "Ada"}
    assert reply.data["fields"] == {"name": "Ada"}
    (plain,) = _Donut(_Writing(tokenizer("<s_docvqa>Ada", add_special_tokens=False)["input_ids"]), prepare, tokenizer)(
        [open_picture(bench.picture(1))]
    )
    assert plain.value == "Ada"


def test_a_checkpoint_of_another_task_is_refused(bench: Bench) -> None:
    message = bench.refused(Task.IMAGE_TO_TEXT, bench.place("visual-question-answering"))
    assert message == "tiny/x was not made for image-to-text: it answers questions"
    message = bench.refused(Task.IMAGE_TO_TEXT, bench.place("visual-question-answering/vilt"))
    assert message == "tiny/x is a checkpoint of ViltForQuestionAnswering, which cannot do image-to-text"


def test_damaged_weights_and_a_lost_vocabulary_are_refused(bench: Bench) -> None:
    bench.assert_damage_is_refused(BLIP)
    copied = bench.copy(TROCR)
    for file in copied.glob("tokenizer*"):
        file.unlink()
    bench.refused(Task.IMAGE_TO_TEXT, copied)


def test_one_bad_picture_spoils_no_other(bench: Bench) -> None:
    bench.assert_one_bad_picture_spoils_no_other(BLIP)
