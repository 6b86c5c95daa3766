"""What `python -m benchmarks convert` measures of other tasks than classification.

The networks are those of examples/task_sets.py, trained as there. Of each new network there is the
error on the test part, in what the task is measured in, and how near its outputs are to the old
ones. Nothing is trained further with labels, and there is no other domain.
"""

import time

import numpy as np

from benchmarks.convert import (
    EXAMPLES,
    NORMS,
    SWEPT,
    WAYS,
    Unit,
)


class OtherTask(Unit):
    """A network for another task, trained from a seed, and all that is made of it."""

    as_compiled = True

    def __init__(self, task, seed, kept, folder):
        from examples import task_sets

        super().__init__(task, seed, kept, folder)
        self.test = task_sets.test_of(self.data)
        self.guess = task_sets.guess(self.data)
        self.origin = task_sets.NETWORKS[self.data.name].norm

    def newly_trained(self):
        """The network of the data set."""
        from examples import task_sets

        return task_sets.trained(self.data, self.seed)

    def way(self, norm, way):
        """The new network that a way to a norm gives; batch norm is another norm here too."""
        import kerasnorm

        if way in ("swapped", "preserved"):
            return kerasnorm.replace_norms(self.old, norm, preserve=way == "preserved")
        return super().way(norm, way)

    def error(self, model):
        """On the test part."""
        return self.test(model)[0]

    def outputs(self, model):
        """What counts of the outputs for the test part: those for padding do not."""
        outputs = model.predict(self.data.test.x, batch_size=500, verbose=0)
        return outputs[self.data.test.y > 0] if self.data.task == "tokens" else outputs

    def measure(self, tuning):
        """All figures that are missing."""
        self.old = self.trained()
        self.old_outputs = self.outputs(self.old)
        if self._missing(kind="original"):
            self._add(
                kind="original",
                origin=self.origin,
                measure=self.test.measure.words,
                error=self.error(self.old),
                guess=self.guess,
                parameters=self.old.count_params(),
            )
        for norm in norms_from(self.origin):
            for way in (*WAYS, *(["distilled"] if norm == SWEPT else [])):
                if self._missing(kind="at once", norm=norm, way=way):
                    self._at_once(norm, way)
        for count in EXAMPLES:
            if self._missing(kind="examples", norm=SWEPT, on=count) and count <= len(
                self.data.train
            ):
                new = self.converted(SWEPT, count=count)
                self._add(kind="examples", norm=SWEPT, on=count, error=self.error(new))
        if self._missing(kind="step", norm=SWEPT):
            self._time_steps()

    def _at_once(self, norm, way):
        began = time.perf_counter()
        new = self.way(norm, way)
        seconds = time.perf_counter() - began
        self._add(
            kind="at once",
            norm=norm,
            way=way,
            error=self.error(new),
            agreement=agreement(self.outputs(new), self.old_outputs, self.data.classes),
            parameters=new.count_params() / self.old.count_params() - 1,
            seconds=round(seconds, 1),
        )


def norms_from(origin):
    """The norms that a network with another one gets.

    >>> norms_from("batch"), norms_from("layer")
    (('layer', 'group', 'ilm_layer'), ('batch', 'group', 'ilm_layer'))
    """
    return tuple("batch" if norm == origin else norm for norm in NORMS)


def agreement(new, old, classes):
    """How near outputs are to others.

    Of classes that is the share of those that are the same; of numbers the share of the old ones'
    variance that the new ones explain.
    """
    if classes is not None:
        return float(np.mean(new.argmax(-1) == old.argmax(-1)))
    return float(1 - np.mean((new - old) ** 2) / np.mean((old - old.mean(axis=0)) ** 2))
