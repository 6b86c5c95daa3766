"""What a layer keeps for its backward pass, counted."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Kept:
    """Memory that waits for a backward pass.

    Attributes:
        total: bytes, x included if it is among them.
        beside_x: bytes without x.
        full_size: how many arrays have at least as many bytes as x; x is one of them.
        largest: bytes of the largest array but x.
    """

    total: int
    beside_x: int
    full_size: int
    largest: int

    @classmethod
    def of(cls, sizes: dict, x_key, x_bytes: int) -> "Kept":
        """From the bytes of each distinct array, under keys among which that of x may be."""
        others = [size for key, size in sizes.items() if key != x_key]
        has_x = x_key in sizes
        return cls(
            total=sum(sizes.values()),
            beside_x=sum(others),
            full_size=has_x + sum(size >= x_bytes for size in others),
            largest=max(others, default=0),
        )


def kept_by_content(arrays: Iterable[np.ndarray], x: np.ndarray) -> Kept:
    """Counts arrays with equal contents once: compilers and reshapes copy what they need not."""

    def key(array):
        content = np.ascontiguousarray(array).reshape(-1).view("uint8")
        return array.nbytes, hashlib.blake2b(content.data).digest()

    sizes = {}
    for array in arrays:
        if array.size:
            sizes[key(array)] = array.nbytes
    return Kept.of(sizes, key(x), x.nbytes)
