"""What a model is worth for a step now: better is more, slower is less, and both on a scale that can be read."""

import pytest

from cluster.hub_models import HubModel
from cluster.state import ModelView
from cluster.tasks import Task
from controller.choosing.scoring import hub_quality, score

UNKNOWN = ModelView(loaded_on=0, in_flight=0, run_s=None, load_s=None, is_set_aside=False)
WEIGHT = 0.03


def loaded(in_flight: int = 0, run_s: float = 1.0, on: int = 1) -> ModelView:
    return ModelView(loaded_on=on, in_flight=in_flight, run_s=run_s, load_s=20.0, is_set_aside=False)


def test_an_idle_loaded_model_of_one_second_costs_one_doubling() -> None:
    found = score(0.8, 10**9, loaded(), WEIGHT, must_be_fetched=False)
    assert (found.total, found.seconds, found.is_loaded) == (pytest.approx(0.77), 1.0, True)


def test_a_queue_is_waited_for_and_replicas_share_it() -> None:
    assert score(0.8, 0, loaded(in_flight=6), WEIGHT, False).seconds == 7.0
    assert score(0.8, 0, loaded(in_flight=6, on=3), WEIGHT, False).seconds == 3.0


def test_loading_costs_what_it_took_here_and_else_what_its_size_lets_expect() -> None:
    seen = ModelView(loaded_on=0, in_flight=0, run_s=1.0, load_s=20.0, is_set_aside=False)
    assert score(0.8, 10**9, seen, WEIGHT, False).seconds == 21.0
    assert score(0.8, 10**9, UNKNOWN, WEIGHT, False).seconds == pytest.approx(1 + 2)
    assert score(0.8, 10**9, UNKNOWN, WEIGHT, True).seconds == pytest.approx(1 + 2 + 20)


def test_more_used_and_liked_is_better_and_never_beyond_eight_tenths() -> None:
    def hub(downloads: int, likes: int, safe: bool | None = True) -> float:
        return hub_quality(HubModel("org/m", Task.SUMMARIZATION, downloads, likes, has_safetensors=safe))

    assert hub(0, 0, None) == 0
    assert hub(100, 1) < hub(10_000, 10) < hub(1_000_000, 1000) < hub(10**9, 10**6) == 0.8
    assert hub(100, 1, safe=None) < hub(100, 1, safe=True)


def test_the_model_that_the_task_table_names_is_good_also_where_nobody_counts() -> None:
    assert hub_quality(HubModel("facebook/bart-large-cnn", Task.SUMMARIZATION, downloads=0, likes=0)) == 0.6


def test_a_score_reads_as_a_reason() -> None:
    assert str(score(0.8, 0, loaded(), WEIGHT, False)) == "score 0.77: quality 0.80, loaded, a result in about 1.0 s"


def test_the_less_time_is_left_the_more_waiting_costs_and_what_would_be_too_late_comes_last() -> None:
    good = ModelView(loaded_on=1, in_flight=0, run_s=7.0, load_s=None, is_set_aside=False)

    def ahead(left_s: float) -> float:
        better, faster = (score(quality, 0, view, WEIGHT, False, left_s=left_s) for quality, view in ((0.9, good), (0.7, loaded())))
        return better.total - faster.total

    assert ahead(1000) == ahead(60) > ahead(30) > 0 > ahead(8) > ahead(5)
    assert ahead(5) < -5
