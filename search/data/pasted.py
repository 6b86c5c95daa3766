"""Pieces of photographs: objects pasted into them, with their masks; and edges of them."""

import functools

import numpy as np

from search.data.parts import Data, Part

# Pictures of each part, and their side.
COUNTS, SIDE = (900, 200, 300), 32
CLASSES = ("photograph", "disc", "square", "triangle", "ring")
# Each picture has so many objects at most.
MOST = 3
# Of the pixels, how many are edges.
EDGES = 0.2
# Shares of the photographs' height for each part.
STRIPS = ((0.0, 0.6), (0.6, 0.8), (0.8, 1.0))


@functools.cache
def shapes():
    """Discs, squares, triangles and rings in photographs: 32x32 pixels in colour, 5 classes.

    An object is filled with another piece of a photograph, shifted in colour; it is turned, and
    may hide an earlier one. The mask is known because it is drawn. The two photographs are those
    of scikit-learn, cut into strips for the three parts: no part sees a pixel of another.

    >>> from search.data import shapes
    >>> data = shapes()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('segmentation', (32, 32, 3), (32, 32, 5), 900, 300)
    """
    train, validation, test = _parts(_picture)
    return Data("shapes", train, validation, test, len(CLASSES), CLASSES, task="segmentation")


@functools.cache
def edges2photos():
    """Edges of pieces of photographs, and the pieces: 32x32 pixels, for networks such as pix2pix.

    A pixel is an edge where the brightness changes most, at one pixel of five. The photographs are
    cut as for `shapes`.

    >>> from search.data import edges2photos
    >>> data = edges2photos()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('regression', (32, 32, 1), (32, 32, 3), 900, 300)
    """
    train, validation, test = _parts(_edges_and_piece)
    return Data("edges2photos", train, validation, test, None, task="regression")


def _parts(draw):
    """Training, validation and test part, of pairs that are drawn."""
    from sklearn.datasets import load_sample_images

    photographs = [image.astype("float32") / 255 for image in load_sample_images().images]
    for index, (count, (top, bottom)) in enumerate(zip(COUNTS, STRIPS, strict=True)):
        generator = np.random.default_rng([2026, index])
        cut = [p[round(top * len(p)) : round(bottom * len(p))] for p in photographs]
        x, y = zip(*(draw(cut, generator) for _ in range(count)), strict=True)
        yield Part(np.stack(x), np.stack(y))


def _edges_and_piece(photographs, generator):
    """The edges of a piece of a photograph, and the piece."""
    piece = _piece(photographs, generator)
    if generator.random() < 0.5:
        piece = piece[:, ::-1]
    down, right = np.gradient(piece.mean(axis=-1))
    steep = np.hypot(down, right)
    edges = steep > np.quantile(steep, 1 - EDGES)
    return edges[..., None].astype("float32"), piece


def _picture(photographs, generator):
    """A picture and its mask."""
    picture, mask = _piece(photographs, generator), np.zeros((SIDE, SIDE), "int32")
    for _ in range(generator.integers(1, MOST + 1)):
        label = int(generator.integers(1, len(CLASSES)))
        inside = _inside(label, generator)
        shift = generator.uniform(-0.4, 0.4, 3).astype("float32")
        filling = np.clip(_piece(photographs, generator) + shift, 0, 1)
        picture = np.where(inside[..., None], filling, picture)
        mask = np.where(inside, label, mask).astype("int32")
    return picture, mask


def _piece(photographs, generator):
    """A piece of a photograph."""
    photograph = photographs[generator.integers(len(photographs))]
    top, left = (int(generator.integers(size - SIDE + 1)) for size in photograph.shape[:2])
    return photograph[top : top + SIDE, left : left + SIDE]


def _inside(label, generator):
    """Which pixels an object covers."""
    radius = generator.uniform(5, 10)
    middle = generator.uniform(radius / 2, SIDE - radius / 2, 2)
    angle = generator.uniform(0, 2 * np.pi)
    down, right = np.mgrid[:SIDE, :SIDE] - middle[:, None, None]
    along = np.cos(angle) * down + np.sin(angle) * right
    across = np.cos(angle) * right - np.sin(angle) * down
    distance = np.hypot(along, across)
    name = CLASSES[label]
    if name == "disc":
        return distance < radius
    if name == "ring":
        return (distance < radius) & (distance > 0.55 * radius)
    if name == "square":
        return np.maximum(abs(along), abs(across)) < 0.85 * radius
    # Its three sides have the same distance from the middle.
    return (along > -radius / 2) & (np.sqrt(3) * abs(across) < radius - along)
