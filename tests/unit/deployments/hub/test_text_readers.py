import math

import pytest
import torch
from pandas import DataFrame
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, TapasForQuestionAnswering, pipeline
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.csv_tables import Table, aggregated, number
from deployments.hub.text_readers import NO_ANSWER
from tests.tiny.runs import opened
from tests.tiny.text_runs import LONG, SHORT, TABLE, Bench, call

QA, MASK, ROBERTA, TABLE_QA = "question-answering", "fill-mask", "fill-mask/roberta", "table-question-answering"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("readers"))


def test_a_batch_is_as_single_calls(bench: Bench) -> None:
    ask = Task.QUESTION_ANSWERING
    bench.assert_a_batch_is_as_single_calls(QA, call(ask, SHORT), call(ask, LONG), call(ask, "Berlin", question="Who is it?"))
    fill = Task.FILL_MASK
    for key in (MASK, ROBERTA):
        bench.assert_a_batch_is_as_single_calls(key, call(fill, "The [MASK] is."), call(fill, f"{LONG} [MASK] and <mask>!"))
    read = Task.TABLE_QUESTION_ANSWERING
    bench.assert_a_batch_is_as_single_calls(TABLE_QA, call(read, TABLE), call(read, "a;b\n1;2", question="how old?"))


def test_the_answer_is_the_likeliest_span_and_its_score_its_share_of_all(bench: Bench) -> None:
    place, text = bench.place(QA), "The text is Berlin."
    net, tokenizer = AutoModelForQuestionAnswering.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    encoded = tokenizer("Where?", text, return_tensors="pt", return_offsets_mapping=True)
    offsets, sequences = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
    with torch.inference_mode():
        found = net(**encoded)
    start, end = found.start_logits[0], found.end_logits[0]
    own = [at for at, sequence in enumerate(sequences) if sequence == 1]
    spans = {(i, j): float(start[i] + end[j]) for i in own for j in own if i <= j < i + 30}
    nothing = float(start[0] + end[0])
    (first, last), best = max(spans.items(), key=lambda span: span[1])
    total = torch.tensor([*spans.values(), nothing]).logsumexp(dim=0)
    given = bench.give(QA, text)
    if nothing > best:
        assert given.value == NO_ANSWER
        assert given.data == {"answer": None, "score": pytest.approx(float((nothing - total).exp()), abs=1e-4)}
    else:
        assert (given.data["start"], given.data["end"]) == (offsets[first][0], offsets[last][1])
        assert given.data["score"] == pytest.approx(float((best - total).exp()), abs=1e-4)


def test_a_network_that_finds_nothing_says_so(bench: Bench) -> None:
    model = opened(Task.QUESTION_ANSWERING, bench.place(QA))
    first = model._tokens.tokenizer.cls_token_id

    class ToTheFirst(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> QuestionAnsweringModelOutput:
            logits = (input_ids == first).float()
            return QuestionAnsweringModelOutput(start_logits=logits, end_logits=logits)

    model._network = ToTheFirst()
    (given,) = model.compute([call(Task.QUESTION_ANSWERING, "ab")])
    assert given.value == NO_ANSWER
    assert given.data["score"] == pytest.approx(math.exp(2) / (math.exp(2) + 3), abs=1e-4)  # nothing, or a, b, ab


def test_an_answer_anywhere_in_a_long_text_is_found_in_its_place(bench: Bench) -> None:
    text = " ".join([LONG] * 5)
    given = bench.give(QA, text)
    assert text[given.data["start"] : given.data["end"]] == given.value == given.data["answer"]
    assert 0 < given.data["score"] <= 1


def test_a_question_longer_than_the_window_and_an_empty_one(bench: Bench) -> None:
    assert bench.give(QA, LONG, question="why " * 200).value in (
        NO_ANSWER,
        *(LONG[i:j] for i in range(len(LONG)) for j in range(i, len(LONG) + 1)),
    )
    assert bench.refusal(QA, LONG, question=" ") == "the question is empty"
    assert bench.refusal(QA, " ") == "the text is empty"


@pytest.mark.parametrize("key", [MASK, ROBERTA])
def test_candidates_are_those_of_the_pipeline(bench: Bench, key: str) -> None:
    place = str(bench.place(key))
    pipe = pipeline("fill-mask", place, tokenizer=place, device="cpu")
    expected = pipe(f"The text is {pipe.tokenizer.mask_token}.")
    given = bench.give(key, "The text is [MASK].")
    (candidates,) = given.data["masks"]
    assert [each["score"] for each in candidates] == pytest.approx([each["score"] for each in expected], abs=1e-4)
    assert [each["token"] for each in candidates] == [each["token_str"].strip() for each in expected]
    assert given.value == candidates[0]["text"]


def test_the_text_around_the_masks_stays_as_it_is(bench: Bench) -> None:
    given = bench.give(MASK, "Ünï  Code: <mask>, then [MASK]")
    first, second = (mask[0]["token"] for mask in given.data["masks"])
    assert str(given.value).startswith("Ünï  Code:")
    assert first.removeprefix("##") in str(given.value)
    assert str(given.value).endswith(second.removeprefix("##"))


def test_a_mask_far_in_a_long_text_is_filled(bench: Bench) -> None:
    given = bench.give(MASK, f"{LONG} {LONG} [MASK] {LONG}")
    assert str(given.value).startswith(f"{LONG} {LONG}")
    assert len(given.data["masks"]) == 1


def test_a_text_without_a_mask_is_refused_in_one_sentence(bench: Bench) -> None:
    assert bench.refusal(MASK, SHORT) == "there is nothing to fill in: the text has no [MASK]"


def test_cells_are_those_of_the_pipeline(bench: Bench) -> None:
    place = bench.place(TABLE_QA)
    tokenizer = AutoTokenizer.from_pretrained(place)
    table = DataFrame([line.split(",") for line in TABLE.splitlines()[1:]], columns=TABLE.splitlines()[0].split(","))
    for question in ("how old?", "who?", "which city is it", "name"):
        pipe = pipeline("table-question-answering", TapasForQuestionAnswering.from_pretrained(place), tokenizer=tokenizer, device="cpu")
        expected = pipe(table, question)
        given = bench.give(TABLE_QA, TABLE, question=question).data
        assert given["operator"] == expected["aggregator"]
        assert [each["text"] for each in given["cells"]] == [table.iat[place] for place in sorted(expected["coordinates"])]


def test_the_tables_in_use_make_the_network_pick_cells(bench: Bench) -> None:
    replies = [bench.give(TABLE_QA, TABLE, question=question) for question in ("how old?", "who?", "which city is it", "name")]
    assert any(reply.data["cells"] for reply in replies)


def test_a_long_table_is_read_to_its_end(bench: Bench) -> None:
    rows = [f"x{place},y,{place}" for place in range(80)]
    given = bench.give(TABLE_QA, "\n".join(["name,city,age", *rows]), question="who?")
    assert all(1 <= each["row"] <= 80 and each["score"] > 0.5 for each in given.data["cells"])
    pieces = bench.model(TABLE_QA)._pieces("who?", Table.read("\n".join(["name,city,age", *rows])))
    assert [row for table, _ in pieces for row in table.rows] == [tuple(row.split(",")) for row in rows]
    assert [table.first_row for table, _ in pieces] == sorted({table.first_row for table, _ in pieces})


def test_columns_of_one_name_dates_and_empty_cells_are_read(bench: Bench) -> None:
    given = bench.give(TABLE_QA, "day,,sum,sum\n2024-05-01,,1.5,\n2024-05-02,x,,2", question="how much since 2024?").data
    assert {each["column"] for each in given["cells"]} <= {"day", "", "sum"}
    assert all(each["text"] in ("2024-05-01", "2024-05-02", "x", "1.5", "2", "") for each in given["cells"])


def test_what_is_no_table_or_too_wide_is_refused(bench: Bench) -> None:
    assert "no table" in bench.refusal(TABLE_QA, "just a line")
    assert "40 columns" in bench.refusal(TABLE_QA, "\n".join([",".join("a" * 40)] * 2))
    assert "too long" in bench.refusal(TABLE_QA, f"a,b\n{'word ' * 200},1")


def test_a_table_is_read_with_its_own_delimiter_and_ragged_rows() -> None:
    assert Table.read('a;b;c\n"1;5";2\n\n3;4;5;6') == Table(("a", "b", "c", ""), (("1;5", "2", "", ""), ("3", "4", "5", "6")))
    with pytest.raises(ModelError, match="no table"):
        Table.read("a,b")


def test_operators_compute() -> None:
    assert number("$1,234.50") == 1234.5
    assert number("n/a") is None
    assert aggregated("SUM", ["1,000", "-2.5"]) == "997.5"
    assert aggregated("AVERAGE", ["1", "2"]) == "1.5"
    assert aggregated("COUNT", ["x", "y", "z"]) == "3"
    assert aggregated("SUM", ["x"]) is None
    assert aggregated("NONE", ["1"]) is None


def test_damaged_and_lying_folders_are_refused(bench: Bench) -> None:
    for key, liar in ((QA, "text-classification"), (MASK, "token-classification"), (TABLE_QA, MASK)):
        bench.assert_damage_and_lies_are_refused(key, liar)
