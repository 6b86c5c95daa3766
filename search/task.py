"""A task: what is to be trained, for a trial or for the answer."""

import dataclasses
from typing import Any

from search.jsonable import jsonable


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be trained; plain, so that it can be sent to another process.

    Attributes:
        number: of the trial, or of the training for the answer.
        spec: the norm spec; None where a hypermodel of the user's is searched.
        words: the same for a reader.
        values: of the hyperparameters.
        seed: of the initial weights, of dropout and of the order of the data.
        epochs, initial_epoch: train from one to the other.
        parent: the task that this one goes on from, with the weights that it saved.
        save: the file to write the weights to.
        test: whether to measure the error on the test part.
        space: the hyperparameters known so far, as KerasTuner's configuration.
        split: of the data; 0 is the one of the trials.
        arm: of a training for the answer, its name "arm", its "role" and, of the ablation,
            what is "changed" "around" which arm; None of a trial.
    """

    number: int
    spec: Any
    words: str
    values: dict
    seed: int
    epochs: int | None
    initial_epoch: int = 0
    parent: "Task | None" = None
    save: str | None = None
    test: bool = False
    space: dict | None = None
    split: int = 0
    arm: dict | None = None

    def line(self):
        """The task and those before it that it goes on from, the first of them last."""
        return [self, *(self.parent.line() if self.parent is not None else ())]


def arms_of(tasks):
    """What the trainings for the answer compare, as the journal has it: each arm once."""
    arms = [jsonable({**task.arm, "spec": task.spec, "values": task.values}) for task in tasks]
    return [arm for index, arm in enumerate(arms) if arm not in arms[:index]]
