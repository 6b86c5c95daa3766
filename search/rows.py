"""Rows: what is known of each trial, and of each training for the answer, when it has ended.

A row is a frozen value in Python and an object in JSON. Everything that says how one becomes the
other stands here: each field with its key, its default and what its value must be.
"""

import dataclasses
import datetime
import enum
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from search import examples


class Status(enum.StrEnum):
    """How a training ended.

    >>> from search.rows import Status
    >>> f"{Status.STOPPED}", Status("failed") is Status.FAILED
    ('stopped', True)
    """

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


# What a value must be.


def is_any(value: Any) -> bool:
    """Whether it is anything."""
    return True


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def is_dict(value: Any) -> bool:
    """Whether it is a dictionary."""
    return isinstance(value, dict)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether it is an integer of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_time(value: Any) -> bool:
    """Whether it is a number of seconds."""
    return is_number(value) and value >= 0


def is_curve(value: Any) -> bool:
    """Whether it is a list of epochs with their metrics."""
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and is_count(entry.get("epoch"))
        and all(or_none(is_number)(number) for number in entry.values())
        for entry in value
    )


def or_none(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test that None passes too."""
    return lambda value: value is None or test(value)


def check_shape(value: Any, shape: Mapping[str, Callable[[Any], bool]], what: str) -> None:
    """Refuse, with a ValueError, what has not each of some keys with a value that passes its test.

    Args:
        value: should be a dictionary.
        shape: the test of each key.
        what: the name of the value in the message.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {shortened(value)}, not a dictionary")
    for key, test in shape.items():
        if key not in value:
            raise ValueError(f"{what} has no {key!r}")
        if not test(value[key]):
            raise ValueError(f"{key!r} of {what} is {shortened(value[key])}")


def shortened(value: Any, most: int = 60) -> str:
    """A plain value as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


# The rows.


def _entry(
    test: Callable, default: Any = None, key: str | None = None, required=True, sparse=False
) -> Any:
    """A field of a row.

    Args:
        test: whether a value is legal.
        default: where nothing is known; `dict` and `list` make an empty one.
        key: in JSON, where that is not the field's name.
        required: whether a row of JSON must have it. Early versions did not write all.
        sparse: whether a row lacks it where it is None.
    """
    about = {"test": test, "key": key, "required": required and not sparse, "sparse": sparse}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=about)
    return dataclasses.field(default=default, metadata=about)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row(Mapping):
    """What trials and trainings for the answer have in common.

    It reads as a mapping too, with the keys of the journal: `row["score"]` is `row.score`.

    Attributes:
        spec: the norm spec; None where a hypermodel of the user's is searched.
        words: the same for a reader.
        hyperparameters: their values, under the key `"values"`.
        seed: of the training.
        status: how it ended.
        reason: why it was stopped or failed.
        traceback: of the exception that it raised.
        score: the objective after the last epoch; None of a failed one.
        metrics: all that the last epoch measured.
        curve: the metrics of each epoch.
        epochs: how many were trained.
        parameters: that are trained.
        step_seconds: the median time of a train step.
        seconds: the time of all.
        fit_seconds: of this, the time inside of `fit`.
        test_error: what the answer's measure gave on the test part: the share of wrong answers,
            where nothing else was asked for.
        started: when, in ISO format.
        warning: what looks wrong with its evaluation.
        worker: which worker trained it, where it was not the driver's own process.
        lost: why earlier attempts were lost with the process that they ran in.
    """

    spec: Any = _entry(is_any)
    words: str = _entry(is_text, "")
    hyperparameters: dict[str, Any] = _entry(is_dict, dict, key="values")
    seed: int = _entry(is_count, 0)
    status: Status = _entry(lambda value: value in list(Status), Status.FAILED)
    reason: str | None = _entry(or_none(is_text))
    traceback: str | None = _entry(or_none(is_text))
    score: float | None = _entry(or_none(is_number))
    metrics: dict[str, Any] = _entry(is_dict, dict)
    curve: list[dict[str, Any]] = _entry(is_curve, list)
    epochs: int = _entry(is_count, 0)
    parameters: int | None = _entry(or_none(is_count))
    step_seconds: float | None = _entry(or_none(is_time))
    seconds: float = _entry(is_time, 0.0)
    fit_seconds: float = _entry(is_time, 0.0)
    test_error: float | None = _entry(or_none(is_number))
    started: str = _entry(is_text, "")
    warning: str | None = _entry(or_none(is_text), required=False)
    worker: str | None = _entry(or_none(is_text), sparse=True)
    lost: list[str] | None = _entry(or_none(is_texts), sparse=True)

    def __post_init__(self):
        object.__setattr__(self, "status", Status(self.status))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The row that a mapping with the keys of the journal holds; a row stays what it is."""
        if isinstance(given, cls):
            return given
        return cls(**{f.name: given[key] for key, f in cls.fields().items() if key in given})

    @classmethod
    def check(cls, given: Any) -> bool:
        """Refuse, with a ValueError, what no search would have written."""
        fields = cls.fields().items()
        shape = {
            key: field.metadata["test"]
            for key, field in fields
            if field.metadata["required"] or (isinstance(given, Mapping) and key in given)
        }
        check_shape(given, shape, "the row")
        if (given["score"] is None) != (given["status"] == Status.FAILED):
            raise ValueError(f"the row is {given['status']}, and its score {given['score']}")
        return True

    @classmethod
    @functools.cache
    def fields(cls) -> dict[str, dataclasses.Field]:
        """The fields by their keys in JSON."""
        return {field.metadata["key"] or field.name: field for field in dataclasses.fields(cls)}

    @property
    def is_scored(self) -> bool:
        """Whether it has a score: completed and stopped ones do."""
        scored = self.status is not Status.FAILED and self.score is not None
        return scored and math.isfinite(self.score)

    def with_entries(self, **entries: Any) -> Self:
        """The same row with some fields replaced."""
        return dataclasses.replace(self, **entries)

    # As a mapping.

    def __getitem__(self, key: str) -> Any:
        field = self.fields()[key]
        value = getattr(self, field.name)
        if value is None and field.metadata["sparse"]:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        for key, field in self.fields().items():
            if not field.metadata["sparse"] or getattr(self, field.name) is not None:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrialRow(Row):
    """The row of a trial.

    Attributes:
        trial: its number.
        continues: the number of the trial that it goes on from, where Hyperband promoted that one.
        space: hyperparameters that it met for the first time, as KerasTuner's configuration; the
            journal has them beside the row.

    Example:
        >>> from search.rows import TrialRow
        >>> row = TrialRow(trial=3, hyperparameters={"norm": "mode"}, status="completed", score=0.1)
        >>> row["values"], row.get("continues"), TrialRow.of(dict(row)) == row
        ({'norm': 'mode'}, None, True)
    """

    trial: int = _entry(is_count, 0)
    continues: int | None = _entry(or_none(is_count), sparse=True)
    space: dict[str, Any] | None = _entry(or_none(is_dict), sparse=True)

    @property
    def number(self) -> int:
        """The number of the task that it is the row of."""
        return self.trial


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AnswerRow(Row):
    """The row of a training for the answer.

    Attributes:
        number: of the training, in the order of the plan.
        arm: the name of what is trained; its trainings differ in the seed only.
        role: `"candidate"`, `"baseline"` or `"ablation"`.
        changed: of the ablation, the hyperparameter that is changed, and its other value.
        around: of the ablation, the arm that it changes.
        split: of the data. Early versions knew one, which is 0.
        test_values: what `test_error` is the mean of, a value for each test example, as
            `search.examples` packs it. Early versions did not write it.
    """

    number: int = _entry(is_count, 0)
    arm: str = _entry(is_text, "")
    role: str = _entry(is_text, "")
    changed: dict[str, Any] | None = _entry(or_none(is_dict), sparse=True)
    around: str | None = _entry(or_none(is_text), sparse=True)
    split: int = _entry(is_count, 0, required=False)
    test_values: str | None = _entry(or_none(examples.is_packed), sparse=True)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The row that a mapping holds; journals of format 2 have its number as "trial"."""
        return super().of(_renamed(given))

    @classmethod
    def check(cls, given: Any) -> bool:
        """Refuse, with a ValueError, what no search would have written."""
        return super().check(_renamed(given))


def _renamed(given: Any) -> Any:
    if isinstance(given, Mapping) and "number" not in given and "trial" in given:
        return {**given, "number": given["trial"]}
    return given


def row_of(given: Mapping[str, Any]) -> TrialRow | AnswerRow:
    """The row that an executor brings back, which may be a plain dictionary by then."""
    return AnswerRow.of(given) if "arm" in given else TrialRow.of(given)


def begun(task: Any) -> TrialRow | AnswerRow:
    """The row of a task that begins; until more is known, it has failed.

    Args:
        task: a `search.task.Task`.
    """
    entries = {
        "spec": task.spec,
        "words": task.words,
        "hyperparameters": dict(task.values),
        "seed": task.seed,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if task.arm is not None:
        return AnswerRow(number=task.number, split=task.split, **task.arm, **entries)
    continues = None if task.parent is None else task.parent.number
    return TrialRow(trial=task.number, continues=continues, **entries)


def failed_row(task: Any, reason: str, details: str | None = None) -> TrialRow | AnswerRow:
    """The row of a task that could not be run to its end.

    Args:
        task: a `search.task.Task`.
        reason: in words.
        details: a traceback.
    """
    return begun(task).with_entries(reason=reason, traceback=details)
