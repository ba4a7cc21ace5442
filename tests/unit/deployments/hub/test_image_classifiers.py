import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, ViTModel, pipeline

from cluster.errors import ModelError
from cluster.tasks import Task
from tests.tiny.runs import give, opened
from tests.tiny.vision_runs import blots, built, loaded

CLASSIFY, EMBED = Task.IMAGE_CLASSIFICATION, Task.IMAGE_FEATURE_EXTRACTION


@pytest.mark.parametrize("name", [str(CLASSIFY), f"{CLASSIFY}/resnet", str(Task.TABULAR_CLASSIFICATION)])
def test_the_scores_are_those_of_the_library_s_own_pipeline(name: str, tmp_path: Path) -> None:
    place, path = built(name, tmp_path), blots(tmp_path)
    task = Task(name.partition("/")[0])
    expected = pipeline("image-classification", model=str(place), image_processor=str(place))(str(path))
    found = give(opened(task, place), task, path).data["labels"]
    assert [label["label"] for label in found] == [label["label"] for label in expected]
    assert [label["score"] for label in found] == pytest.approx([label["score"] for label in expected], abs=1e-3)


def test_a_reader_sees_the_first_synonym_and_only_labels_that_count(tmp_path: Path) -> None:
    for seed in range(3):
        reply = give(loaded(CLASSIFY, tmp_path), CLASSIFY, blots(tmp_path, seed=seed))
        counting = [label for label in reply.data["labels"] if label["score"] >= 0.05]
        expected = ", ".join(f"{label['label'].removesuffix(', Tinca tinca')} ({label['score']:.2f})" for label in counting)
        assert reply.value == expected.replace(", Carassius auratus", "")


def test_labels_that_exclude_each_other_share_1_and_others_do_not(tmp_path: Path) -> None:
    place, path = built(CLASSIFY, tmp_path), blots(tmp_path)
    shares = {label["label"]: label["score"] for label in give(opened(CLASSIFY, place), CLASSIFY, path).data["labels"]}
    config = json.loads((place / "config.json").read_text()) | {"problem_type": "multi_label_classification"}
    (place / "config.json").write_text(json.dumps(config))
    alone = {label["label"]: label["score"] for label in give(opened(CLASSIFY, place), CLASSIFY, path).data["labels"]}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    for label, share in shares.items():  # sigmoid and softmax of the same numbers have the same ratios of odds
        odds = alone[label] / (1 - alone[label])
        assert odds / sum(score / (1 - score) for score in alone.values()) == pytest.approx(share, abs=1e-2)


def test_a_checkpoint_without_names_for_its_classes_numbers_them(tmp_path: Path) -> None:
    place = built(CLASSIFY, tmp_path)
    config = json.loads((place / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (place / "config.json").write_text(json.dumps(config | {"num_labels": 3}))
    labels = give(opened(CLASSIFY, place), CLASSIFY, blots(tmp_path)).data["labels"]
    assert {label["label"] for label in labels} == {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_the_embedding_of_a_vit_is_its_class_token(tmp_path: Path) -> None:
    place, path = built(EMBED, tmp_path), blots(tmp_path, (32, 32))
    network = ViTModel.from_pretrained(place, add_pooling_layer=False)
    pixels = torch.frombuffer(bytearray(Image.open(path).tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1) / 127.5 - 1
    with torch.inference_mode():
        token = network(pixel_values=pixels[None]).last_hidden_state[0, 0]
    assert give(opened(EMBED, place), EMBED, path).data["embedding"] == pytest.approx(token.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", [str(EMBED), f"{EMBED}/resnet", f"{EMBED}/dinov3", f"{EMBED}/clip"])
def test_a_picture_lies_nearer_to_itself_made_smaller_than_to_another(name: str, tmp_path: Path) -> None:
    model, path = loaded(name, tmp_path), blots(tmp_path, (96, 96))
    small = tmp_path / "small.png"
    Image.open(path).resize((64, 64), Image.Resampling.BICUBIC).save(small)
    vectors = [torch.tensor(give(model, EMBED, one).data["embedding"]) for one in (path, small, blots(tmp_path, (96, 96), seed=5))]
    assert (vectors[0] - vectors[1]).norm() < (vectors[0] - vectors[2]).norm()


def test_a_network_that_reads_texts_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"}))
    with pytest.raises(ModelError, match=r"tiny/x is a BertModel, which reads no pictures"):
        opened(EMBED, tmp_path)
