"""Budget: the time that one run may take, and how much of it is the steps'. Knows the clock and nothing else.

The last tenth, at most five seconds, is kept back for the answer: a run whose steps take too long answers with what it has.
"""

import asyncio
import time
from dataclasses import dataclass, field

KEPT_BACK_SHARE, MOST_KEPT_BACK_S = 0.1, 5.0
LATEST_SHARE = 0.5  # of what is kept back, after which a reply that should have come by now is waited for no longer, nor the LLM's words


@dataclass(frozen=True, slots=True)
class Budget:
    total_s: float
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def left_s(self) -> float:
        return self.total_s - self.elapsed_s

    @property
    def steps_left_s(self) -> float:
        """Until the steps must have ended; negative afterwards."""
        return self.left_s - self._kept_back_s

    @property
    def steps_until_s(self) -> float:
        """Unix time, for replicas on other machines: when the steps must have ended."""
        return time.time() + self.steps_left_s

    @property
    def replies_until_s(self) -> float:
        """Of the event loop's clock: when a step's reply is given up."""
        return asyncio.get_running_loop().time() + self.words_left_s

    @property
    def words_left_s(self) -> float:
        """For the LLM's words about results, which go out also without them."""
        return self.left_s - (1 - LATEST_SHARE) * self._kept_back_s

    @property
    def _kept_back_s(self) -> float:
        return min(KEPT_BACK_SHARE * self.total_s, MOST_KEPT_BACK_S)
