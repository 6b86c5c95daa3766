"""What an answer is measured by on the test part: its name, its direction, its unit."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from search.errors import BadInput
from search.names import direction_by_name

# Where nothing else is asked for, by the task.
DEFAULTS = {
    "classification": "error",
    "segmentation": "pixel_error",
    "regression": "mean_squared_error",
    "tokens": "token_error",
    "compiled": "loss",
}
# Those that are shares of the examples, or of their pixels or tokens; the search shows them in
# percent.
SHARES = ("error", "accuracy", "pixel_error", "mean_iou", "token_error")
# Keras's short names, and what they stand for.
SHORT = {
    "mae": "mean_absolute_error",
    "mean_io_u": "mean_iou",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
    "rmse": "root_mean_squared_error",
}
WORDS = {"auc": "AUC", "mean_iou": "mean IoU", "r2_score": "R2 score"}


@dataclass(frozen=True)
class Measure:
    """A measure of a trained model on the test part.

    Attributes:
        name: one of the search's own (`DEFAULTS`, `SHARES`), that of a metric of Keras's, or
            `MODULE:FUNCTION`.
        direction: `"min"` where less of it is better, `"max"` where more is.
        share: whether it is a share of the examples, which is shown in percent.

    Example:
        >>> from search.measure import Measure
        >>> r2 = Measure.of("r2_score")
        >>> r2.direction, r2.said, r2.better, r2.cost(0.5)
        ('max', 'test R2 score', 'higher', -0.5)
    """

    name: str = "error"
    direction: str = "min"
    share: bool = True

    @classmethod
    def of(cls, text: str) -> Self:
        """The measure that `NAME`, `NAME:min` or `MODULE:FUNCTION:max` stands for."""
        name, direction = text.strip(), None
        head, _, last = name.rpartition(":")
        if last in ("min", "max"):
            name, direction = head, last
        direction = direction or direction_by_name(name)
        if not name or direction is None:
            raise BadInput(
                f"measure {text!r} is not well known, and does not say whether less or more of it "
                f"is better. Needed: {name or 'NAME'}:min or {name or 'NAME'}:max."
            )
        short = name if ":" in name else _snake(name)
        return cls(short, direction, short in SHARES)

    @classmethod
    def found(cls, manifest: Mapping[str, Any]) -> Self:
        """That of a search; early versions knew the error of a classification alone."""
        said = manifest.get("measure")
        if said:
            return cls(**said)
        return cls(share=bool((manifest.get("data") or {}).get("classes")))

    def described(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    @property
    def words(self) -> str:
        """The name for a reader."""
        name = self.name.rpartition(":")[2]
        return WORDS.get(name, name.replace("_", " "))

    @property
    def said(self) -> str:
        """The name of its value on the test part."""
        return f"test {self.words}"

    @property
    def better(self) -> str:
        """What a better value is, compared with another."""
        return "lower" if self.direction == "min" else "higher"

    @property
    def worse(self) -> str:
        """What a worse value is, compared with another."""
        return "higher" if self.direction == "min" else "lower"

    @property
    def best(self) -> str:
        """What the best of several values is."""
        return "lowest" if self.direction == "min" else "highest"

    @property
    def sign(self) -> float:
        """1 where less is better, -1 where more is."""
        return 1.0 if self.direction == "min" else -1.0

    def cost(self, value: Any) -> Any:
        """A value, or an array of them, as what less is better of; of a cost, the value."""
        return self.sign * value


def _snake(name: str) -> str:
    """`MeanSquaredError` as `mean_squared_error`, and what people write for short in full."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return SHORT.get(snake, snake)
