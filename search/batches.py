"""Batches of a part, in the same order on every backend."""

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """The batches of a part, in an order that depends on a seed and on the epoch alone.

    So two trainings with one seed see the same examples in the same order, on every backend. A
    last batch that is not full is left out of each epoch.

    Args:
        part: what to draw from.
        batch_size: of each batch; at most all examples.
        seed: of the order and of the augmentation.
        augmentation: pixels to pad by before a random crop to the old size, followed by a flip
            left to right for one image in two; `(pad, flip)`. None is no augmentation.
        epoch: the first one.

    Example:
        >>> from search.batches import Batches
        >>> from search.data import load
        >>> batches = Batches(load("digits").train, 64, seed=0, augmentation=(1, False))
        >>> len(batches), batches[0][0].shape
        (17, (64, 8, 8, 1))
    """

    def __init__(self, part, batch_size, seed, augmentation=None, epoch=0):
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=1)
        self.part = part
        self.batch_size = min(batch_size, len(part))
        self.seed = seed
        self.augmentation = augmentation
        self.epoch = epoch
        self._shuffle()

    def _shuffle(self):
        generator = np.random.default_rng([self.seed, self.epoch])
        self._order = generator.permutation(len(self.part))

    def __len__(self):
        return len(self.part) // self.batch_size

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        part = self.part.rows(chosen)
        x = part.x
        if self.augmentation is not None:
            # Of the batch's own, so that it does not matter in which order batches are taken.
            generator = np.random.default_rng([self.seed, self.epoch, index])
            pad, flip = self.augmentation
            x = augmented(x, pad, flip, generator)
        return x, part.y

    def on_epoch_end(self):
        """Go on to the order of the next epoch."""
        self.epoch += 1
        self._shuffle()


def augmented(x, pad, flip, generator):
    """Images padded with zeros, cropped at random to their old size, and flipped, each by itself.

    >>> import numpy as np
    >>> from search.batches import augmented
    >>> augmented(np.ones((3, 8, 8, 1)), 2, True, np.random.default_rng(0)).shape
    (3, 8, 8, 1)
    """
    count, height, width = x.shape[:3]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    top, left = generator.integers(0, 2 * pad + 1, (2, count))
    rows = top[:, None] + np.arange(height)
    columns = left[:, None] + np.arange(width)
    if flip:
        turned = generator.random(count) < 0.5
        columns = np.where(turned[:, None], columns[:, ::-1], columns)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
