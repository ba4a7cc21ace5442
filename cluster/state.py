"""What the cluster is doing right now, as data: which replica has which model, how busy it is, how fast it was. Decides nothing."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model on one replica. Seconds are means over its last runs and loads here; None before the first."""

    model: str
    is_loaded: bool
    in_flight: int = 0  # calls waiting or running
    run_s: float | None = None
    load_s: float | None = None
    is_set_aside: bool = False  # it kept failing here and is not tried for a while


@dataclass(frozen=True, slots=True)
class ReplicaState:
    replica: str
    family: str
    node: str
    budget_bytes: int
    used_bytes: int
    models: tuple[ModelState, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model over all replicas."""

    loaded_on: int  # replicas
    in_flight: int
    run_s: float | None
    load_s: float | None
    is_set_aside: bool  # on every replica that knows it


@dataclass(frozen=True, slots=True)
class ClusterState:
    replicas: tuple[ReplicaState, ...] = ()

    def view(self, model_id: str) -> ModelView:
        known = [model for replica in self.replicas for model in replica.models if model.model == model_id]
        return ModelView(
            loaded_on=sum(model.is_loaded for model in known),
            in_flight=sum(model.in_flight for model in known),
            run_s=_mean(model.run_s for model in known),
            load_s=_mean(model.load_s for model in known),
            is_set_aside=bool(known) and all(model.is_set_aside for model in known),
        )

    def largest_budget_bytes(self, family: str) -> int | None:
        """The most that one replica of the family may hold; None while none has reported."""
        return max((replica.budget_bytes for replica in self.replicas if replica.family == family), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
