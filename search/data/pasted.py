"""Pieces of photographs: objects pasted into them, with their masks; and edges of them."""

import functools

import numpy as np

from search.data.parts import OF_PHOTOGRAPHS, Data, Part

# Pictures of each part, and their side.
COUNTS, SIDE = (900, 200, 300), 32
CLASSES = ("photograph", "disc", "square", "triangle", "ring")
# Each picture has so many objects at most.
MOST = 3
# How much the brightness changes from one pixel to the next where an edge is.
STEEP = 0.06
# Height and width of the colours beside the edges.
COARSE = 4
# Photographs are cut into blocks of about this height and width; each belongs to one part.
BLOCK = 61, 64
SHARES = (0.6, 0.8, 1.0)


@functools.cache
def shapes():
    """Discs, squares, triangles and rings in photographs: 32x32 pixels in colour, 5 classes.

    An object is filled with another piece of a photograph, shifted in colour; it is turned, and
    may hide an earlier one. The mask is known because it is drawn. The two photographs are those
    of scikit-learn, cut into blocks for the three parts: no part sees a pixel of another.

    >>> from search.data import shapes
    >>> data = shapes()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('segmentation', (32, 32, 3), (32, 32, 5), 900, 300)
    """
    train, validation, test = _parts(_picture)
    return Data(
        "shapes",
        train,
        validation,
        test,
        len(CLASSES),
        CLASSES,
        task="segmentation",
        tied=OF_PHOTOGRAPHS,
    )


@functools.cache
def edges2photos():
    """Edges of pieces of photographs, and the pieces: 32x32 pixels, for networks such as pix2pix.

    A pixel is an edge where the brightness changes by more than 6 %. Beside the edges stand the
    colours of the piece at 4x4 pixels: edges alone do not say what has which colour. The
    photographs are cut as for `shapes`.

    >>> from search.data import edges2photos
    >>> data = edges2photos()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('regression', (32, 32, 4), (32, 32, 3), 900, 300)
    """
    train, validation, test = _parts(_edges_and_piece)
    return Data(
        "edges2photos", train, validation, test, None, task="regression", tied=OF_PHOTOGRAPHS
    )


def _parts(draw):
    """Training, validation and test part, of pairs that are drawn."""
    blocks = _blocks()
    order = np.random.default_rng(2026).permutation(len(blocks))
    ends = [round(share * len(blocks)) for share in (0, *SHARES)]
    for index, count in enumerate(COUNTS):
        generator = np.random.default_rng([2026, index])
        own = [blocks[number] for number in order[ends[index] : ends[index + 1]]]
        x, y = zip(*(draw(own, generator) for _ in range(count)), strict=True)
        yield Part(np.stack(x), np.stack(y))


def _blocks():
    """Scikit-learn's two photographs in blocks."""
    from sklearn.datasets import load_sample_images

    height, width = BLOCK
    return [
        image[top : top + height, left : left + width].astype("float32") / 255
        for image in load_sample_images().images
        for top in range(0, image.shape[0] - height + 1, height)
        for left in range(0, image.shape[1] - width + 1, width)
    ]


def _edges_and_piece(blocks, generator):
    """The edges of a piece of a photograph, and the piece."""
    piece = _piece(blocks, generator)
    if generator.random() < 0.5:
        piece = piece[:, ::-1]
    down, right = np.gradient(piece.mean(axis=-1))
    edges = np.hypot(down, right) > STEEP
    step = SIDE // COARSE
    colours = piece.reshape(COARSE, step, COARSE, step, 3).mean(axis=(1, 3))
    colours = colours.repeat(step, axis=0).repeat(step, axis=1)
    return np.concatenate([edges[..., None], colours], axis=-1).astype("float32"), piece


def _picture(blocks, generator):
    """A picture and its mask."""
    picture, mask = _piece(blocks, generator), np.zeros((SIDE, SIDE), "int32")
    for _ in range(generator.integers(1, MOST + 1)):
        label = int(generator.integers(1, len(CLASSES)))
        inside = _inside(label, generator)
        shift = generator.uniform(-0.4, 0.4, 3).astype("float32")
        filling = np.clip(_piece(blocks, generator) + shift, 0, 1)
        picture = np.where(inside[..., None], filling, picture)
        mask = np.where(inside, label, mask).astype("int32")
    return picture, mask


def _piece(blocks, generator):
    """A piece of a photograph."""
    block = blocks[generator.integers(len(blocks))]
    top, left = (int(generator.integers(size - SIDE + 1)) for size in block.shape[:2])
    return block[top : top + SIDE, left : left + SIDE]


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
