"""How a run stands to the others: what it may take from them, as the graph asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.messages import Done, TaskResult
from controller.execution.flights import Flights
from controller.planning.plan import Step


class Recall(Protocol):
    """What other runs made and make, from the view of this one."""

    def may_know(self, step: Step) -> bool:
        """False only where no result could be this step's, whatever it is given."""
        ...

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """The step's result, where the same was made before of what `results` holds of the steps it needs."""
        ...

    def kept_of(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """As `found`, at once, where it was asked before whether artifacts are still there."""
        ...

    def recipe(self, step: Step, recipes: Mapping[str, str]) -> str | None:
        """Equal for two steps that will give the same. `recipes`: of the steps it needs. None: not to be shared."""
        ...


class Nothing:
    """The Recall of a run that shares with no other."""

    def may_know(self, step: Step) -> bool:
        return False

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> None:
        return None

    def kept_of(self, step: Step, results: Mapping[str, TaskResult]) -> None:
        return None

    def recipe(self, step: Step, recipes: Mapping[str, str]) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Others:
    """How a run stands to the others. `holds`: it waits for inputs that may turn out to be known, where submitting is faster."""

    recall: Recall = Nothing()
    flights: Flights = field(default_factory=Flights)
    holds: bool = False
