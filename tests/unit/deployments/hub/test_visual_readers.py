from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image, ImageDraw, ImageFont

from cluster.tasks import Task
from deployments.hub.page_words import PageWord, around, page_words
from deployments.model import Call
from deployments.vision import open_picture
from tests.tiny.multimodal_runs import Bench, keys_of

VQA, DOCUMENT, CHAT = "visual-question-answering", "document-question-answering", "image-text-to-text"
VILT, LAYOUTLM, LAYOUTLMV3 = f"{VQA}/vilt", f"{DOCUMENT}/layoutlm", f"{DOCUMENT}/layoutlmv3"
OF_PAGES = (LAYOUTLM, LAYOUTLMV3)  # want words on the picture
OTHERS = [key for task in (VQA, DOCUMENT, CHAT) for key in keys_of(Task(task)) if key not in OF_PAGES]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("visual_readers"))


@pytest.fixture(scope="module")
def page(bench: Bench) -> Path:
    picture = Image.new("RGB", (360, 110), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(28)
    draw.text((20, 10), "Invoice 4711", "black", font)
    draw.text((20, 60), "Total 12 euros", "black", font)
    path = bench.folder / "page.png"
    picture.save(path)
    return path


@pytest.mark.parametrize("key", OTHERS)
def test_a_batch_is_as_single_calls_and_a_bad_picture_spoils_no_other(bench: Bench, key: str) -> None:
    bench.assert_a_batch_is_as_single_calls(key)
    bench.assert_one_bad_picture_spoils_no_other(key)


@pytest.mark.parametrize("key", OTHERS)
def test_the_reply_is_text_without_marks_and_without_what_was_asked(bench: Bench, key: str) -> None:
    (reply,) = bench.give(key, bench.picture(1), question="what is it?", prompt="what is it?")
    value = str(reply.value)
    assert value == (reply.data["text"] if key.startswith(CHAT) else reply.data["answer"])
    marks = ("[CLS]", "[SEP]", "<s_", "</s", "<pad>", "<image>", "<|", "Assistant:", "ASSISTANT:", "what is it")
    assert not any(mark in value for mark in marks)


@pytest.mark.parametrize("key", [VQA, DOCUMENT, CHAT])
def test_another_question_gets_another_reply_and_none_is_refused(bench: Bench, key: str) -> None:
    path = bench.picture(1)
    replies = [bench.give(key, path, question=text, prompt=text)[0].value for text in ("how many dogs are there?", "zzz")]
    assert replies[0] != replies[1]
    assert "and it is empty" in bench.refusal(key, path, question=" ", prompt="")


@pytest.mark.parametrize("key", OTHERS)
def test_a_long_question_is_cut_or_refused_in_a_sentence(bench: Bench, key: str) -> None:
    long = "why? <image> <|image_pad|> <s_answer> " * 100
    if key == DOCUMENT:
        assert "too long for this model, which takes 96 tokens" in bench.refusal(key, bench.picture(1), question=long)
    else:
        assert bench.give(key, bench.picture(1), question=long, prompt=long)


def test_blip_answers_what_its_own_class_does_beside_questions_of_other_lengths(bench: Bench) -> None:
    folder, path = bench.place(VQA), bench.picture(1)
    net = transformers.BlipForQuestionAnswering.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    questions = ("what is it?", "how many of them are there?", "who is it?")
    calls = [Call(Task(VQA), (path,), {"question": question}) for question in questions]
    replies = bench.model(VQA).compute(calls)  # type: ignore[attr-defined]
    for question, reply in zip(questions, replies, strict=True):
        features = processor(images=open_picture(path), text=question, return_tensors="pt")
        with torch.inference_mode():
            written = net.generate(**features, max_new_tokens=32, do_sample=False)
        assert reply.value == processor.decode(written[0], skip_special_tokens=True).strip()


def test_vilt_gives_its_answers_with_their_own_probabilities(bench: Bench) -> None:
    folder, path = bench.place(VILT), bench.picture(1)
    net = transformers.ViltForQuestionAnswering.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    with torch.inference_mode():
        scores = net(**processor(open_picture(path), "what is it?", return_tensors="pt")).logits.sigmoid()[0]
    (reply,) = bench.give(VILT, path)
    assert reply.value == net.config.id2label[int(scores.argmax())]
    assert reply.data["score"] == pytest.approx(float(scores.max()), abs=1e-3)
    assert [one["score"] for one in reply.data["answers"]] == pytest.approx(scores.topk(5).values.tolist(), abs=1e-3)


def test_donut_goes_on_from_the_question_as_transformers_pipeline_does(bench: Bench) -> None:
    folder, picture = bench.place(DOCUMENT), open_picture(bench.picture(1))
    net = transformers.VisionEncoderDecoderModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    prompt = "<s_docvqa><s_question>what is it?</s_question><s_answer>"
    given = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        written = net.generate(prepare(picture, return_tensors="pt")["pixel_values"], decoder_input_ids=given, max_new_tokens=64)
    expected = tokenizer.decode(written[0, given.shape[1] :], skip_special_tokens=True).strip()
    assert bench.give(DOCUMENT, bench.picture(1))[0].value == expected


@pytest.mark.parametrize("key", OF_PAGES)
def test_layout_readers_point_at_words_of_the_page(bench: Bench, page: Path, key: str) -> None:
    (reply,) = bench.give(key, page, question="what is the total?")
    words = {word for line in ("Invoice 4711", "Total 12 euros") for word in line.split()}
    assert set(str(reply.value).split()) <= words
    left, top, right, bottom = reply.data["box"]
    assert 0 <= left < right <= 360
    assert 0 <= top < bottom <= 110
    assert 0 < reply.data["score"] <= 1


def test_layoutlm_answers_as_transformers_pipeline_with_the_same_words(bench: Bench, page: Path) -> None:
    from deployments.vision import Ocr

    (found,) = Ocr.load(1).compute([Call(Task.IMAGE_TO_TEXT, (page,))])
    word_boxes = [(word.text, word.on_page(360, 110)) for word in page_words(found.data["lines"])]
    folder = bench.place(LAYOUTLM)
    parts = {
        "model": transformers.AutoModelForDocumentQuestionAnswering.from_pretrained(folder),
        "tokenizer": transformers.AutoTokenizer.from_pretrained(folder),
    }
    pipeline = transformers.pipeline(DOCUMENT, **parts, device=-1)
    (expected,) = pipeline({"question": "what is the total?", "word_boxes": word_boxes}, max_seq_len=512)
    (reply,) = bench.give(LAYOUTLM, page, question="what is the total?")
    assert reply.value == expected["answer"]
    assert reply.data["score"] == pytest.approx(expected["score"], abs=1e-4)


def test_a_page_without_words_is_refused(bench: Bench) -> None:
    path = bench.folder / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    assert "no text was found" in bench.refusal(LAYOUTLM, path)


def test_a_line_is_shared_out_among_its_words_by_characters() -> None:
    lines = [{"text": "Total 12", "box": [[100, 10], [180, 10], [180, 30], [100, 30]]}]
    words = page_words(lines)
    assert words == [PageWord("Total", (100, 10, 150, 30)), PageWord("12", (160, 10, 180, 30))]
    assert words[1].on_page(200, 100) == [800, 100, 900, 300]
    assert around(words) == [100, 10, 180, 30]


@pytest.mark.parametrize("key", [VQA, LAYOUTLM, CHAT])
def test_damaged_weights_are_refused(bench: Bench, key: str) -> None:
    bench.assert_damage_is_refused(key)


def test_a_checkpoint_of_another_task_is_refused(bench: Bench) -> None:
    caption = bench.place("image-to-text")
    assert bench.refused(Task(VQA), caption).startswith("tiny/x was not made for visual-question-answering: its weights lack text_encoder.")
    assert "cannot do document-question-answering" in bench.refused(Task(DOCUMENT), bench.place("zero-shot-image-classification"))
    assert "it takes no question" in bench.refused(Task(DOCUMENT), bench.place("image-to-text/vit-gpt2"))
    assert "no processor that takes a picture with a text" in bench.refused(Task(CHAT), bench.place("image-to-text/vit-gpt2"))
    assert "cannot do image-text-to-text" in bench.refused(Task(CHAT), bench.place(VILT))


def test_a_chat_models_words_are_those_of_its_template(bench: Bench) -> None:
    """By hand: the template around the prompt, and what follows it."""
    folder, path = bench.place(CHAT), bench.picture(1)
    net = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    text = "<|im_start|>User:<image>Say what you see.<end_of_utterance>\nAssistant:"
    features = processor(text=[text], images=[open_picture(path)], return_tensors="pt")
    with torch.inference_mode():
        written = net.generate(**features, max_new_tokens=256, do_sample=False)[:, features["input_ids"].shape[1] :]
    assert bench.give(CHAT, path)[0].value == processor.decode(written[0], skip_special_tokens=True).strip()


def test_an_absurd_picture_is_refused_in_a_sentence(bench: Bench) -> None:
    path = bench.picture(1, 1000, 2)
    message = bench.refusal(f"{CHAT}/qwen2-vl", path)
    assert message.startswith("the picture cannot be prepared for this model: ")
