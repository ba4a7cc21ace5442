"""TaskBench's scores against cases counted by hand."""

import pytest

from benchmarks.plan_score import Pair, intervals, score
from benchmarks.taskbench import Node

ASR = "Automatic Speech Recognition"
GOLD = (Node(ASR, ("example.wav",)), Node("Translation", ("<node-0>",)), Node("Text-to-Speech", ("<node-1>",)))


def scored(predicted: tuple[Node, ...] | None, gold: tuple[Node, ...] = GOLD) -> dict[str, float]:
    return score([Pair("chain", gold, predicted)])


def f1(hits: int, extra: int, missed: int) -> float:
    return 2 * hits / (2 * hits + extra + missed)


def four(figures: dict[str, float], suffix: str = "") -> list[float]:
    return [figures[f"{name}_f1{suffix}"] for name in ("node", "edge", "type", "value")]


def test_the_gold_plan_is_right_in_any_order() -> None:
    backwards = (Node("Text-to-Speech", ("<node-1>",)), Node("Translation", ("<node-2>",)), Node(ASR, ("example.wav",)))
    assert four(scored(backwards)) == [1, 1, 1, 1]


def test_an_extra_node_costs_precision() -> None:
    extra = scored((*GOLD, Node("Summarization", ("<node-0>",))))
    assert four(extra) == [f1(3, 1, 0), f1(2, 1, 0), f1(3, 1, 0), f1(3, 1, 0)]


def test_a_missing_edge_costs_recall_and_the_literal_in_its_place_is_another_value() -> None:
    unwired = scored((GOLD[0], Node("Translation", ("hello",)), GOLD[2]))
    assert four(unwired) == [1, f1(1, 0, 1), 1, f1(2, 1, 1)]


def test_a_wrong_source_of_the_right_type_is_a_wrong_edge_and_a_wrong_value_only() -> None:
    skipping = scored((GOLD[0], GOLD[1], Node("Text-to-Speech", ("<node-0>",))))
    assert four(skipping) == [1, f1(1, 1, 1), 1, f1(2, 1, 1)]


def test_an_edge_has_a_direction() -> None:
    one = (Node("Summarization", ("<node-1>",)), Node("Translation", ("a text",)))
    other = (Node("Summarization", ("a text",)), Node("Translation", ("<node-0>",)))
    assert scored(other, one)["edge_f1"] == 0


def test_a_node_that_refers_to_itself_or_to_nothing_has_no_such_argument() -> None:
    gold = (Node("Image Editing", ("<node-0>", "example.jpg")), Node("Image-to-Text", ("<node-0>", "<node-7>")))
    clean = (Node("Image Editing", ("example.jpg",)), Node("Image-to-Text", ("<node-0>",)))
    assert four(scored(clean, gold)) == [1, 1, 1, 1]


def test_two_nodes_of_one_task_are_one_name_and_may_have_an_edge_between_them() -> None:
    twice = (Node("Translation", ("a text",)), Node("Translation", ("<node-0>",)))
    once = (Node("Translation", ("a text",)),)
    assert four(scored(once, twice)) == [1, 0, 1, f1(1, 0, 1)]


def test_a_reference_inside_words_counts() -> None:
    gold = (Node(ASR, ("example.wav",)), Node("Conversational", ("What are the benefits of <node-0>?",)))
    assert four(scored((gold[0], Node("Conversational", ("<node-0>",))), gold)) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("gold", "predicted", "is_same_type"),
    [
        ("example.jpg", "photo.png", True),
        ("'example.jpg'", "a picture named example.jpeg, please", True),
        ("example.jpg", "example.wav", False),
        ("example.flac", "example.wav", True),
        ("example.mp4", "example.mov", True),
        ("example.mp4", "example.jpg", False),
        ("example.txt", "good morning", True),
        ("example.txt", "example.jpg", False),
    ],
)
def test_a_literal_has_its_files_type_and_else_is_text(gold: str, predicted: str, is_same_type: bool) -> None:
    found = scored((Node("Image-to-Text", (predicted,)),), (Node("Image-to-Text", (gold,)),))
    assert (found["type_f1"], found["value_f1"]) == (float(is_same_type), 0)


def test_a_reference_has_the_output_type_of_its_task() -> None:
    gold = (Node("Text-to-Image", ("a red house",)), Node("Image Editing", ("<node-0>", "make it blue")))
    as_file = (gold[0], Node("Image Editing", ("example.jpg", "make it blue")))
    as_text = (gold[0], Node("Image Editing", ("<node-0>",)))
    assert scored(as_file, gold)["type_f1"] == 1
    assert scored(as_text, gold)["type_f1"] == f1(2, 0, 1)


def test_tasks_outside_the_table_are_ignored_on_both_sides() -> None:
    stray = Node("Web Search", ("cats",))
    assert four(scored((*GOLD, stray))) == [1, 1, 1, 1]
    assert four(scored(GOLD, (*GOLD, stray))) == [1, 1, 1, 1]
    assert four(scored((*GOLD[:2], Node("Text-to-Speech", ("<node-1>", "<node-3>")), stray))) == [1, 1, 1, 1]


def test_an_underscore_is_a_space() -> None:
    assert scored((Node("Automatic_Speech_Recognition", ("example.wav",)), *GOLD[1:])) == scored(GOLD)


def test_no_plan_is_an_empty_plan_that_is_counted_and_left_out_of_the_valid() -> None:
    found = score([Pair("chain", GOLD, GOLD), Pair("chain", GOLD, None)])
    assert four(found) == [f1(3, 0, 3), f1(2, 0, 2), f1(3, 0, 3), f1(3, 0, 3)]
    assert four(found, "_valid") == [1, 1, 1, 1]
    assert found["invalid_rate"] == 0.5


def test_a_plan_without_steps_is_valid() -> None:
    found = scored(())
    assert (found["node_f1"], found["node_f1_valid"], found["invalid_rate"]) == (0, 0, 0)


def test_hits_are_summed_over_requests_before_they_are_divided() -> None:
    single = (Node("Summarization", ("a text",)),)
    wrong = (Node("Translation", ("a text",)),)
    found = score([Pair("chain", GOLD, GOLD), Pair("single", single, wrong)])
    assert found["node_f1"] == f1(3, 1, 1) != (1 + 0) / 2


def test_each_kind_has_its_own_figures() -> None:
    single = (Node("Summarization", ("a text",)),)
    found = score([Pair("chain", GOLD, GOLD), Pair("single", single, ()), Pair("single", single, single)])
    assert four(found, "_chain") == [1, 1, 1, 1]
    assert four(found, "_single") == [f1(1, 0, 1), 0, f1(1, 0, 1), f1(1, 0, 1)]
    assert "node_f1_dag" not in found


def test_an_interval_holds_its_figure_and_comes_again_with_its_seed() -> None:
    pairs = [Pair("chain", GOLD, GOLD[: 1 + n % 3] if n % 5 else None) for n in range(60)]
    found, bounds = score(pairs), intervals(pairs)
    assert bounds.keys() == found.keys()
    assert all(bounds[name][0] <= figure <= bounds[name][1] for name, figure in found.items())
    assert bounds["node_f1"][0] < found["node_f1"] < bounds["node_f1"][1]
    assert intervals(pairs) == bounds
    assert intervals(pairs, seed=1) != bounds


def test_more_requests_make_a_narrower_interval() -> None:
    few = [Pair("chain", GOLD, GOLD if n % 2 else None) for n in range(20)]
    widths = [high - low for low, high in (intervals(pairs)["node_f1"] for pairs in (few, few * 20))]
    assert 0 < widths[1] < widths[0] / 3


def test_nothing_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="no plans"):
        score([])
    with pytest.raises(ValueError, match="no plans"):
        intervals([])
