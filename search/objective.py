"""What a search minimizes or maximizes: the one place that knows which scores are better."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from search.names import direction_of
from search.rows import Status, TrialRow


@dataclass(frozen=True)
class Objective:
    """A metric and its direction.

    Attributes:
        name: of the metric.
        direction: `"min"` where a lower value is better, `"max"` where a higher one is.

    Example:
        >>> from search.objective import Objective
        >>> accuracy = Objective.of("val_accuracy")
        >>> accuracy.is_better(0.9, 0.8), accuracy.cost(0.9)
        (True, -0.9)
    """

    name: str
    direction: str = "min"

    @classmethod
    def of(cls, given: Any) -> Self:
        """The objective that a text or a `keras_tuner.Objective` stands for."""
        if isinstance(given, str):
            return cls(*direction_of(given))
        return cls(given.name, given.direction)

    @property
    def sign(self) -> float:
        """1 where a lower score is better, -1 where a higher one is."""
        return -1.0 if self.direction == "max" else 1.0

    def cost(self, score: float) -> float:
        """A score as a number of which less is better."""
        return self.sign * score

    def is_better(self, score: float, other: float) -> bool:
        """Whether a score is better than another."""
        return self.cost(score) < self.cost(other)

    def ranked(self, trial_rows: Iterable[Any]) -> list[TrialRow]:
        """The completed trials, the best first; of equal ones the earlier trial.

        >>> from search.objective import Objective
        >>> rows = [{"trial": n, "status": "completed", "score": s} for n, s in enumerate([3, 1])]
        >>> [row.trial for row in Objective("val_loss").ranked(rows)]
        [1, 0]
        """
        completed = [
            row
            for row in map(TrialRow.of, trial_rows)
            if row.status is Status.COMPLETED and row.is_scored
        ]
        return sorted(completed, key=lambda row: (self.cost(row.score), row.trial))
