"""How good a choice a model is for a step, now: its quality less what waiting for it costs. Pure functions; the numbers are here.

    score = quality - delay_weight * log2(1 + seconds)
    seconds = waiting in its queue + bringing it into memory + running it

A model that is loaded and idle keeps its quality; every doubling of the time to a result costs `delay_weight` (0.03 by default), so
one that must first be downloaded for a minute has to be better by 0.18. In a run that has less than a minute left, waiting costs more
in the same measure, six times as much with ten seconds; and a model that would not be done in time comes after all that would.

quality of a card of this cluster: what its curator wrote
quality of a hub model: 0.5 * downloads + 0.2 * likes + 0.1 if it has safetensors, both counts on a logarithmic scale up to
ten million downloads in 30 days and ten thousand likes; at most 0.8, since popular is not the same as tried here
quality of the task table's own model of the task: at least 0.6, whatever the counts say or where they are not known
"""

from dataclasses import dataclass
from math import inf, log2, log10

from cluster.hub_models import HubModel
from cluster.state import ModelView
from cluster.tasks import TASKS

MOST_DOWNLOADS, MOST_LIKES = 10_000_000, 10_000
LEAST_OF_DEFAULT = 0.6
BYTES_READ_PER_S = 500e6  # from disk into memory
BYTES_FETCHED_PER_S = 50e6  # from the hub
USUAL_RUN_S = 1.0  # of a model that has not run here yet
RELAXED_S = 60.0  # with less time left waiting costs more
TOO_LATE = 10.0  # score lost by what would not be done in time: more than quality and delay together can make up for


@dataclass(frozen=True, slots=True)
class Score:
    total: float
    quality: float
    seconds: float  # to a result, as expected
    is_loaded: bool

    def __str__(self) -> str:
        place = "loaded" if self.is_loaded else "to be loaded"
        return f"score {self.total:.2f}: quality {self.quality:.2f}, {place}, a result in about {self.seconds:.1f} s"


def hub_quality(model: HubModel) -> float:
    """0..0.8, from how many people use and like it, whether its weights are safe to open, and whether the task table names it."""
    downloads = min(1.0, log10(1 + model.downloads) / log10(1 + MOST_DOWNLOADS))
    likes = min(1.0, log10(1 + model.likes) / log10(1 + MOST_LIKES))
    known = round(0.5 * downloads + 0.2 * likes + (0.1 if model.has_safetensors else 0.0), 3)
    return max(known, LEAST_OF_DEFAULT) if model.id == TASKS[model.task].default_model else known


def score(quality: float, size_bytes: int, view: ModelView, delay_weight: float, must_be_fetched: bool, *, left_s: float = inf) -> Score:
    """`size_bytes`: of the weights, for what loading would take where no load was seen yet. `left_s`: until the run's steps must end."""
    run_s = USUAL_RUN_S if view.run_s is None else view.run_s
    if view.loaded_on:
        seconds = run_s + view.in_flight * run_s / view.loaded_on
    else:
        estimate_s = size_bytes / BYTES_READ_PER_S + (size_bytes / BYTES_FETCHED_PER_S if must_be_fetched else 0.0)
        seconds = run_s + (estimate_s if view.load_s is None else view.load_s)
    delay = delay_weight * max(1.0, RELAXED_S / max(left_s, 1.0)) * log2(1 + seconds)
    late = TOO_LATE if seconds > left_s else 0.0
    return Score(quality - delay - late, quality, seconds, is_loaded=view.loaded_on > 0)
