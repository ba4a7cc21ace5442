import pytest
import torch
import transformers

from cluster.tasks import Task
from deployments.hub.zero_shot import _sentence
from deployments.vision import open_picture
from tests.tiny.multimodal_runs import Bench, keys_of

CLIP, SIGLIP = "zero-shot-image-classification", "zero-shot-image-classification/siglip"
OWL, OWLV2, GROUNDING_DINO = (f"zero-shot-object-detection{kind}" for kind in ("", "/owlv2", "/grounding-dino"))
LABELS = ("cat", "traffic light", "a dog")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("zero_shot"))


@pytest.mark.parametrize("key", [CLIP, SIGLIP])
def test_labels_score_as_in_transformers_pipeline(bench: Bench, key: str) -> None:
    folder, path = bench.place(key), bench.picture(1)
    parts = {
        "model": transformers.AutoModelForZeroShotImageClassification.from_pretrained(folder),
        "tokenizer": transformers.AutoTokenizer.from_pretrained(folder),
        "image_processor": transformers.AutoImageProcessor.from_pretrained(folder, backend="pil"),
    }
    pipeline = transformers.pipeline("zero-shot-image-classification", **parts, device=-1)
    expected = pipeline(open_picture(path), candidate_labels=list(LABELS))
    (reply,) = bench.give(key, path, labels=LABELS)
    assert [one["label"] for one in reply.data["labels"]] == [one["label"] for one in expected]
    assert [one["score"] for one in reply.data["labels"]] == pytest.approx([one["score"] for one in expected], abs=1e-3)
    assert str(reply.value).startswith(f"{expected[0]['label']} ({expected[0]['score']:.2f})")


@pytest.mark.parametrize("key", [*keys_of(Task.ZERO_SHOT_IMAGE_CLASSIFICATION), *keys_of(Task.ZERO_SHOT_OBJECT_DETECTION)])
def test_a_batch_is_as_single_calls(bench: Bench, key: str) -> None:
    bench.assert_a_batch_is_as_single_calls(key)
    bench.assert_one_bad_picture_spoils_no_other(key)


def test_a_neighbour_with_other_labels_changes_nothing(bench: Bench) -> None:
    from deployments.model import Call

    task, path = Task.ZERO_SHOT_IMAGE_CLASSIFICATION, bench.picture(1)
    model = bench.model(CLIP)
    calls = [Call(task, (path,), {"labels": labels}) for labels in (("cat", "a dog"), ("a very long label of a red train", "cat"))]
    together = model.compute(calls)  # type: ignore[attr-defined]
    alone = [model.compute([call])[0] for call in calls]  # type: ignore[attr-defined]
    assert [reply.value for reply in together] == [reply.value for reply in alone]
    assert sum(one["score"] for one in together[0].data["labels"]) == pytest.approx(1, abs=1e-3)


def test_labels_may_be_one_text_with_commas_and_doubles_count_once(bench: Bench) -> None:
    path = bench.picture(1)
    assert bench.give(CLIP, path, labels="cat, a  dog,cat,") == bench.give(CLIP, path, labels=("cat", "a dog"))


def test_too_few_labels_are_refused_and_long_ones_cut(bench: Bench) -> None:
    path = bench.picture(1)
    assert "2 to 100 different labels, and 1 were given" in bench.refusal(CLIP, path, labels=("cat", "cat "))
    assert "1 to 100 different labels, and 0 were given" in bench.refusal(OWL, path, labels=())
    assert "too long for this model" in bench.refusal(GROUNDING_DINO, path, labels=("word " * 100, "cat"))
    for key in (CLIP, SIGLIP, OWL):
        assert bench.give(key, path, labels=("word " * 100, "cat"))


@pytest.mark.parametrize("key", keys_of(Task.ZERO_SHOT_OBJECT_DETECTION))
def test_boxes_lie_in_the_picture_and_carry_given_labels(bench: Bench, key: str) -> None:
    (reply,) = bench.give(key, bench.picture(1), labels=LABELS)
    objects = reply.data["objects"]
    assert objects
    for thing in objects:
        left, top, right, bottom = thing["box"]
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 60
        assert 0.1 < thing["score"] <= 1
        assert thing["label"] in LABELS
    assert [thing["score"] for thing in objects] == sorted((thing["score"] for thing in objects), reverse=True)
    assert f"× {objects[0]['label']} ({objects[0]['score']:.2f})" in str(reply.value)


@pytest.mark.parametrize("key", [OWL, OWLV2])
def test_owl_finds_what_its_own_processing_gives(bench: Bench, key: str) -> None:
    folder, picture = bench.place(key), open_picture(bench.picture(1))
    net = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    queries = transformers.AutoTokenizer.from_pretrained(folder)(["a photo of a cat"], return_tensors="pt")
    with torch.inference_mode():
        found = net(**prepare(picture, return_tensors="pt"), **queries)
    (expected,) = prepare.post_process_object_detection(found, threshold=0.1, target_sizes=[(60, 80)])
    best = int(expected["scores"].argmax())
    thing = bench.give(key, bench.picture(1), labels=("cat",))[0].data["objects"][0]
    assert thing["score"] == pytest.approx(float(expected["scores"][best]), abs=1e-3)
    sides = (80, 60, 80, 60)
    cut = [min(max(place, 0.0), side) for place, side in zip(expected["boxes"][best].tolist(), sides, strict=True)]
    assert thing["box"] == pytest.approx(cut, abs=0.1)


def test_grounding_dino_scores_a_label_by_its_own_tokens(bench: Bench) -> None:
    """The best score of all is the best of any token, as in its own processing, less the marks between labels."""
    folder, picture = bench.place(GROUNDING_DINO), open_picture(bench.picture(1))
    net = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)("cat. a dog.", return_tensors="pt")
    with torch.inference_mode():
        scores = net(**prepare(picture, return_tensors="pt"), **tokens).logits.sigmoid()[0].amax(dim=0)
    (reply,) = bench.give(GROUNDING_DINO, bench.picture(1), labels=("Cat", "a dog"))
    best = {label: max(one["score"] for one in reply.data["objects"] if one["label"] == label) for label in ("Cat", "a dog")}
    # [CLS] c ##a ##t . a d ##o ##g . [SEP]; a box whose other label scores more is not listed under this one
    assert max(best.values()) == pytest.approx(float(torch.cat([scores[1:4], scores[5:9]]).max()), abs=1e-3)
    assert best["Cat"] <= float(scores[1:4].max()) + 1e-3
    assert best["a dog"] <= float(scores[5:9].max()) + 1e-3


def test_labels_become_one_text_with_their_places() -> None:
    text, spans = _sentence(("Traffic light", "e.g. a dog"))
    assert text == "traffic light. e g  a dog."
    assert [text[first:last] for first, last in spans] == ["traffic light", "e g  a dog"]


@pytest.mark.parametrize("key", [CLIP, OWL])
def test_what_is_no_such_network_and_what_is_damaged_is_refused(bench: Bench, key: str) -> None:
    bench.assert_damage_is_refused(key)
    message = bench.refused(Task(key), bench.place("visual-question-answering/vilt"))
    assert message == f"tiny/x is a checkpoint of ViltForQuestionAnswering, which cannot do {key}"
