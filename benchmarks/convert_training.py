"""How `python -m benchmarks convert` trains networks."""

import math
import time
from typing import NamedTuple


class Training(NamedTuple):
    """How a network is trained further: by Adam, on a domain.

    Several clients take turns, and the steps are those of all of them. Private training takes the
    examples of a step one by one, so it is slow and ends earlier.
    """

    words: str
    domain: str
    batch_size: int
    rate: float
    clients: int = 1
    private: bool = False
    most_steps: float = math.inf

    def optimizer(self, seed):
        """A new one."""
        import keras

        from benchmarks.private import PrivateAdam

        return PrivateAdam(self.batch_size, seed=seed) if self.private else keras.optimizers.Adam()


TRAININGS = {
    "same 64": Training("same data, batches of 64", "same", 64, 3e-4),
    "same 2": Training("same data, batches of 2", "same", 2, 1e-4),
    "other 64": Training("another domain, batches of 64", "other", 64, 3e-4),
    "other 2": Training("another domain, batches of 2", "other", 2, 1e-4),
    "clients": Training("another domain, five clients", "other", 16, 3e-4, clients=5),
    "private": Training(
        "another domain, private", "other", 128, 1e-3, private=True, most_steps=100
    ),
}
# Steps of a client before the mean of all clients is taken.
LOCAL_STEPS = 4


def compile_for_training(model, optimizer=None, jit_compile=False):
    """With labels, by Adam unless another optimizer is given. On JAX it is always compiled."""
    import keras

    optimizer = (optimizer or keras.optimizers.Adam)()
    jit_compile = jit_compile or keras.backend.backend() == "jax"
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)


def forget(optimizer):
    """The state of an optimizer before its first step."""
    import numpy as np

    for variable in optimizer.variables:
        if variable.path != optimizer._learning_rate.path:
            variable.assign(np.zeros(variable.shape, variable.dtype))


def train(model, x, y, steps, size, seed, rate):
    """Some steps; `rate(step)` is the learning rate."""
    import numpy as np

    generator = np.random.default_rng(seed)
    order: list = []
    for step in range(steps):
        if len(order) < size:
            order = generator.permutation(len(y)).tolist()
        rows, order = order[:size], order[size:]
        model.optimizer.learning_rate = float(rate(step))
        model.train_on_batch(x[rows], y[rows])


def train_further(model, x, y, steps, training, seed):
    """Some steps of a kind of training."""

    def rate(step):
        return training.rate

    if training.private:
        train(model, x, y, steps * training.batch_size, 1, seed, rate)
        return
    if training.clients == 1:
        train(model, x, y, steps, training.batch_size, seed, rate)
        return
    parts = [(x[rows], y[rows]) for rows in rows_of_clients(y, training.clients)]
    for turn in range(steps // (training.clients * LOCAL_STEPS)):
        start = model.get_weights()
        ends = []
        for client, part in enumerate(parts):
            model.set_weights(start)
            forget(model.optimizer)
            own_seed = [seed, turn, client]
            train(model, *part, LOCAL_STEPS, training.batch_size, own_seed, rate)
            ends.append(model.get_weights())
        model.set_weights([sum(values) / len(ends) for values in zip(*ends, strict=True)])


def rows_of_clients(y, clients):
    """The examples of each client: no two have a class in common.

    >>> [rows.tolist() for rows in rows_of_clients([2, 0, 1, 2, 3], 2)]
    [[1, 2], [0, 3, 4]]
    """
    import numpy as np

    return [
        np.flatnonzero(np.isin(y, classes)) for classes in np.array_split(np.unique(y), clients)
    ]


def interleaved(models, x, y, rounds=30):
    """The seconds of training steps, of one model after the other."""
    import numpy as np

    seconds = np.zeros((len(models), rounds + 3))
    for number in range(rounds + 3):
        for index, model in enumerate(models):
            began = time.perf_counter()
            model.train_on_batch(x, y)
            seconds[index, number] = time.perf_counter() - began
    return seconds[:, 3:]
