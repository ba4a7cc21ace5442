import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertModel, T5EncoderModel

from cluster.tasks import Task
from tests.tiny.runs import opened
from tests.tiny.text_runs import LONG, SHORT, Bench, call

SIMILAR, EMBED, BERT, T5, QWEN = "sentence-similarity", *(f"feature-extraction{kind}" for kind in ("", "/bert", "/t5", "/qwen"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("embeddings"))


def unit(vector: torch.Tensor) -> list[float]:
    numbers: list[float] = torch.nn.functional.normalize(vector, dim=-1).flatten().tolist()
    return numbers


@pytest.mark.parametrize("key", [EMBED, BERT, T5, QWEN])
def test_a_batch_is_as_single_calls(bench: Bench, key: str) -> None:
    task = Task.FEATURE_EXTRACTION
    bench.assert_a_batch_is_as_single_calls(key, call(task, SHORT), call(task, LONG), call(task, "one"))


def test_likeness_is_the_cosine_of_the_two_vectors(bench: Bench) -> None:
    task = Task.SENTENCE_SIMILARITY
    bench.assert_a_batch_is_as_single_calls(SIMILAR, call(task, SHORT, LONG), call(task, "one", "two"))
    one, other = (torch.tensor(bench.give(EMBED, text).data["embedding"]) for text in ("one", "two"))
    assert bench.give(SIMILAR, "one", "two").data["similarity"] == pytest.approx(float(one @ other), abs=1e-4)
    assert bench.give(SIMILAR, SHORT, SHORT).data["similarity"] == pytest.approx(1, abs=1e-4)


def test_mean_pooling_leaves_padding_out(bench: Bench) -> None:
    place = bench.place(EMBED)
    net, tokenizer = BertModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        hidden = net(**tokenizer("one two", return_tensors="pt")).last_hidden_state
    given = bench.give(EMBED, "one two")
    assert given.data["embedding"] == pytest.approx(unit(hidden.mean(dim=1)), abs=1e-4)
    assert str(given.value).startswith(f"a vector of {hidden.shape[-1]} numbers: {given.data['embedding'][0]:.4f}, ")


@pytest.mark.parametrize("mode", ["cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"])
def test_the_folder_says_how_token_vectors_become_one(bench: Bench, mode: str) -> None:
    place = bench.changed(EMBED, "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode=mode)
    net, tokenizer = BertModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        hidden = net(**tokenizer("one two", return_tensors="pt")).last_hidden_state[0]
    weights = torch.arange(1, len(hidden) + 1).unsqueeze(-1)
    expected = {
        **{"cls": hidden[0], "max": hidden.max(dim=0).values, "lasttoken": hidden[-1], "mean_sqrt_len_tokens": hidden.sum(dim=0)},
        "weightedmean": (hidden * weights).sum(dim=0) / weights.sum(),
    }[mode]
    model = opened(Task.FEATURE_EXTRACTION, place)
    (given, _) = model.compute([call(Task.FEATURE_EXTRACTION, "one two"), call(Task.FEATURE_EXTRACTION, SHORT)])
    assert given.data["embedding"] == pytest.approx(unit(expected), abs=1e-4)


def test_a_dense_layer_after_pooling_is_applied_and_t5_needs_no_decoder(bench: Bench) -> None:
    place = bench.place(T5)
    net, tokenizer = T5EncoderModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        pooled = net(**tokenizer("one two", return_tensors="pt")).last_hidden_state.mean(dim=1)
    dense = load_file(place / "2_Dense" / "model.safetensors")["linear.weight"]
    assert bench.give(T5, "one two").data["embedding"] == pytest.approx(unit(pooled @ dense.T), abs=1e-4)


def test_the_prompt_that_the_folder_names_stands_before_the_text(bench: Bench) -> None:
    place = bench.place(QWEN)
    net, tokenizer = AutoModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        hidden = net(**tokenizer("Find: one", return_tensors="pt")).last_hidden_state
    assert bench.give(QWEN, "one").data["embedding"] == pytest.approx(unit(hidden[:, -1]), abs=1e-4)


def test_an_encoder_decoder_gives_what_its_encoder_says(bench: Bench) -> None:
    place = bench.place("summarization")
    net, tokenizer = AutoModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        hidden = net.get_encoder()(**tokenizer("one two", return_tensors="pt")).last_hidden_state
    (given,) = opened(Task.FEATURE_EXTRACTION, place).compute([call(Task.FEATURE_EXTRACTION, "one two")])
    assert given.data["embedding"] == pytest.approx(unit(hidden.mean(dim=1)), abs=1e-4)


def test_a_long_text_is_the_weighted_mean_of_its_pieces(bench: Bench) -> None:
    """all-MiniLM's folder says that 32 tokens, marks included, are read at once; each letter is a token."""
    whole = torch.tensor(bench.give(EMBED, "a" * 45).data["embedding"])
    pieces = [(32, "a" * 30), (17, "a" * 15)]  # the second begins inside a word, hence ##a
    model = bench.model(EMBED)
    rows = model._tokens.rows("a" * 45)
    assert [len(row["input_ids"]) for row in rows] == [size for size, _ in pieces]
    (batch,) = model._tokens.passes(rows)
    vectors = torch.nn.functional.normalize(model._pooled(batch))
    assert whole.tolist() == pytest.approx(unit(32 * vectors[0] + 17 * vectors[1]), abs=1e-4)


def test_an_empty_text_is_refused(bench: Bench) -> None:
    assert bench.refusal(SIMILAR, "one", " ") == "the text is empty"


def test_damaged_and_lying_folders_are_refused(bench: Bench) -> None:
    bench.assert_damage_and_lies_are_refused(EMBED, QWEN)
    task, broken = Task.FEATURE_EXTRACTION, bench.copy(T5)
    (broken / "2_Dense" / "model.safetensors").write_bytes(b"{}")
    assert "2_Dense" in bench.refused(task, broken)
    (broken / "modules.json").write_text("[")
    assert "modules.json is not JSON" in bench.refused(task, broken)
    strange = bench.changed(EMBED, "1_Pooling/config.json", pooling_mode="attention")
    assert "attention" in bench.refused(task, strange)
    steps = json.loads((bench.place(EMBED) / "modules.json").read_text())
    assert [step["path"] for step in steps] == ["", "1_Pooling", "2_Normalize"]
