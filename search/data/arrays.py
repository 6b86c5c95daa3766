"""Data from arrays: checked, numbered and split."""

import zipfile
import zlib

import numpy as np

from search.data import nests
from search.data.parts import PADDING, TEST_SHARE, VALIDATION_SHARE, Data, Part, split
from search.errors import BadInput

# Said wherever labels are not those of a classification.
CLASSIFICATION = (
    "Needed: one label per example (an integer from 0, a text, or a one-hot row); or another task: "
    "--task regression or --task segmentation (task='regression')."
)


def arrays_of_file(path):
    """The arrays of an `.npz` file, by their names; the one of an `.npy` file."""
    single = str(path).endswith(".npy")
    try:
        with open(path, "rb") as file:
            if single:
                return np.load(file, allow_pickle=False)
            if not zipfile.is_zipfile(file):
                raise BadInput(
                    f"data={str(path)!r} is not an .npz file. Needed: a file as "
                    "numpy.savez(path, x=..., y=...) writes it."
                )
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except BadInput:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise BadInput(
                f"data={str(path)!r} holds arrays of Python objects, which could run code when "
                "loaded. Needed: arrays of numbers or texts, such as numpy.array(labels, str)."
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"data={str(path)!r} cannot be read: {reason}.") from error


def named(arrays):
    """Names for arrays by their number."""
    names = {
        2: ("x", "y"),
        4: ("x_train", "y_train", "x_test", "y_test"),
        6: ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
    }.get(len(arrays))
    if names is None:
        raise BadInput(f"data: {len(arrays)} arrays. Needed: 2 (x, y), 4 or 6 (see load).")
    return dict(zip(names, arrays, strict=True))


def from_arrays(arrays, name="arrays", task=None):
    """A `Data` of arrays by their names; see `load`.

    Args:
        arrays: by their names.
        name: of the set.
        task: one of `search.names.TASKS`; None is what the labels look like.

    >>> import numpy as np
    >>> from search.data import from_arrays
    >>> x, y = np.zeros((50, 4, 4, 1)), np.arange(50) % 5
    >>> data = from_arrays({"x": x, "y": y})
    >>> data.classes, len(data.train), len(data.test)
    (5, 30, 10)
    >>> from_arrays({"x": x, "y": y / 7}).task
    'regression'
    """
    known = ("x", "y", "x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
    for key in arrays:
        if key not in known:
            raise BadInput(f"data: an array is called {key!r}. Needed: some of {', '.join(known)}.")
    if "x" in arrays:
        arrays = {"x_train": arrays["x"], **{k: v for k, v in arrays.items() if k != "x"}}
        arrays["y_train"] = arrays.pop("y", None)
    pairs = {}
    for part in ("train", "val", "test"):
        x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if (x is None) != (y is None):
            raise BadInput(f"data: only one of x_{part} and y_{part} is there. Needed: both.")
        if x is not None:
            pairs[part] = (_examples(part, x, task), _each(f"y_{part}", y, _unpacked))
            _check_counts(part, *pairs[part])
    if "train" not in pairs:
        raise BadInput("data: there is no training part. Needed: x and y, or x_train and y_train.")
    several = any(nests.are_several(y) for _, y in pairs.values())
    if several and task not in (None, "compiled"):
        raise BadInput(
            f"task={task!r}, and the data have labels of several outputs. Needed: --task compiled "
            "(task='compiled'), or one array of labels."
        )
    if task is None:
        task = "compiled" if several else _task_of(*pairs["train"])
    labels, parts, classes = _OF_TASK[task](pairs)
    for of in ("x", "y"):
        shapes = {part: nests.shapes(getattr(examples, of)) for part, examples in parts.items()}
        if any(shape != shapes["train"] for shape in shapes.values()):
            what = "examples" if of == "x" else "labels"
            raise BadInput(
                f"data: the {what} of the parts differ in shape ({shapes}). Needed: one shape."
            )
    by_class = task == "classification"
    if "test" not in parts:
        parts["train"], parts["test"] = split(parts["train"], TEST_SHARE, by_class=by_class)
    if "val" not in parts:
        parts["train"], parts["val"] = split(parts["train"], VALIDATION_SHARE, by_class=by_class)
    three = (parts["train"], parts["val"], parts["test"])
    return Data(name, *three, classes, labels, task=task)


def _task_of(x, y):
    """The task that labels look like; a classification where that is not clear, which says why."""
    if y.dtype.kind == "f" and y.size and not (y == np.round(y)).all():
        return "regression"
    whole = y.dtype.kind in "iub" or (y.dtype.kind == "f" and y.size)
    pixels = any(len(sides) > 1 and y.shape[1:] in (sides, (*sides, 1)) for sides in _sides_of(x))
    return "segmentation" if whole and pixels else "classification"


def _sides_of(x):
    """Height and width, or what there is instead, of an example of each input that has any."""
    return [one.shape[1:-1] for one in nests.flat(x) if one.ndim > 2] or [()]


def _of_classification(pairs):
    """Names, parts and the number of classes, with an integer for each example."""
    names, parts = _numbered({part: (x, _labels(part, y)) for part, (x, y) in pairs.items()})
    return names, parts, _classes_of(parts)


def _of_segmentation(pairs):
    """The same with an integer for each pixel."""
    needed = "Needed: for each pixel the number of its class, from 0."
    parts = {}
    for part, (x, y) in pairs.items():
        sides = _sides_of(x)
        y = y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 and y.shape[1:-1] in sides else y
        if y.dtype.kind not in "iufb" or y.shape[1:] not in sides:
            shapes = " and ".join(str(one.shape) for one in nests.flat(x))
            raise BadInput(
                f"data: y_{part} has shape {y.shape} and dtype {y.dtype}, and x_{part} shape "
                f"{shapes}. {needed}"
            )
        if y.min() < 0 or not (y == np.round(y)).all():
            strange = y[(y < 0) | (y != np.round(y))].ravel()[0]
            raise BadInput(f"data: y_{part} holds {strange}, which is not a class. {needed}")
        parts[part] = Part(x, y.astype("int32"))
    return (), parts, _number_of_classes(parts)


def _of_tokens(pairs):
    """The same with an integer for each position; 0 is padding."""
    needed = "Needed: for each position the number of a token; 0 is padding."
    parts = {}
    for part, (x, y) in pairs.items():
        if nests.are_several(x):
            raise BadInput(f"data: x_{part} is several arrays. Needed for --task tokens: one.")
        for name, array in (("x", x), ("y", y)):
            if array.dtype.kind not in "iuf" or array.ndim != 2:
                raise BadInput(
                    f"data: {name}_{part} has shape {array.shape} and dtype {array.dtype}. {needed}"
                )
            strange = array[(array < 0) | (array != np.round(array))]
            if strange.size:
                raise BadInput(
                    f"data: {name}_{part} holds {strange[0]}, which is not a token. {needed}"
                )
            if not (array != PADDING).any(axis=1).all():
                raise BadInput(f"data: {name}_{part} has an example of padding alone. {needed}")
        parts[part] = Part(x.astype("int32"), y.astype("int32"))
    return (), parts, _number_of_classes(parts)


def _number_of_classes(parts):
    """How many classes there are; the training part has the last one."""
    classes = int(parts["train"].y.max()) + 1
    for part, examples in parts.items():
        if examples.y.max() >= classes:
            raise _strange(part, int(examples.y.max()), range(classes))
    if classes < 2:
        raise BadInput("data: there is one class only. Needed: at least two.")
    return classes


def _of_regression(pairs):
    """The same with numbers of any shape."""
    parts = {}
    for part, (x, y) in pairs.items():
        _check_numbers(f"y_{part}", y)
        y = y[:, None] if y.ndim == 1 else y
        if y.dtype == np.uint8 and y.ndim > 2:
            # Images, as those of x are.
            y = y.astype("float32") / 255
        y = np.ascontiguousarray(y, dtype="float32")
        if not np.isfinite(y).all():
            raise BadInput(f"data: y_{part} holds NaN or infinite values. Needed: finite numbers.")
        parts[part] = Part(x, y)
    return (), parts, None


def _as_compiled(pairs):
    """The same with labels as they are: the model's loss knows what they mean."""
    parts = {}
    for part, (x, y) in pairs.items():
        parts[part] = Part(x, _each(f"y_{part}", y, _as_given))
    return (), parts, None


def _as_given(name, y):
    """Labels as they are, in the precision of Keras."""
    _check_numbers(name, y)
    return y.astype("float32") if y.dtype.kind == "f" else _integers(name, y)


_OF_TASK = {
    "classification": _of_classification,
    "segmentation": _of_segmentation,
    "regression": _of_regression,
    "tokens": _of_tokens,
    "compiled": _as_compiled,
}


def _each(name, given, function):
    """What `function(name, array)` makes of each array that is given under a name."""
    nest = nests.normal(given)
    return nests.mapped(function, nests.names(nest, name), nest)


def _examples(part, x, task):
    """Examples as they are needed, or an error that says what is wrong with them."""
    several = nests.are_several(nests.normal(x))
    as_needed = _one_of_several if several else _tokens if task == "tokens" else _only_input
    return _each(f"x_{part}", x, as_needed)


def _only_input(name, x):
    """The examples of a model with one input."""
    x = _unpacked(name, x)
    if x.ndim < 2:
        raise BadInput(
            f"data: {name} has shape {x.shape}. Needed: examples along the first axis, each with "
            "a shape of its own."
        )
    _check_numbers(name, x)
    return _floats(name, x[..., None] if x.ndim == 3 else x)


def _tokens(name, x):
    """One integer for each position, which the network takes as it takes other numbers."""
    x = _unpacked(name, x)
    _check_numbers(name, x)
    return _only_input(name, x.astype("float32"))


def _one_of_several(name, x):
    """The examples of one of several inputs, in their shape; integers stay, for an embedding."""
    x = _unpacked(name, x)
    _check_numbers(name, x)
    images = x.dtype == np.uint8 and x.ndim > 2
    return _floats(name, x) if images or x.dtype.kind == "f" else _integers(name, x)


def _floats(name, x):
    """Finite numbers; those of images between 0 and 1."""
    if x.dtype == np.uint8:
        x = x.astype("float32") / 255
    x = np.asarray(x, "float32", order="C")
    if not np.isfinite(x).all():
        raise BadInput(f"data: {name} holds NaN or infinite values. Needed: finite numbers.")
    return x


def _integers(name, x):
    found = np.asarray(x, "int32", order="C")
    if not (found == x).all():
        strange = x[found != x].ravel()[0]
        raise BadInput(f"data: {name} holds {strange}. Needed: integers of 32 bits, or fractions.")
    return found


def _labels(part, y):
    """Labels as one integer, or one text, for each example."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "iufb" and ((y == 0) | (y == 1)).all():
        if not (y.sum(axis=1) == 1).all():
            raise BadInput(
                f"data: y_{part} has rows with several classes or none. {CLASSIFICATION}"
            )
        return np.argmax(y, axis=1)
    if y.ndim != 1:
        raise BadInput(f"data: y_{part} has shape {y.shape}. {CLASSIFICATION}")
    if y.dtype.kind in "UT":
        return y.astype(str)
    if y.dtype.kind not in "iufb":
        raise BadInput(f"data: y_{part} has dtype {y.dtype}. {CLASSIFICATION}")
    whole = y == np.round(y) if y.dtype.kind == "f" else np.ones(len(y), bool)
    if not whole.all():
        raise BadInput(
            f"data: y_{part} holds {y[~whole][0]}, which is not a class. {CLASSIFICATION}"
        )
    return y.astype("int64")


def _unpacked(name, array):
    """An array; one of Python objects as what it holds."""
    try:
        array = np.asarray(array)
        if array.dtype == object:
            # Texts and numbers together would all become texts.
            kinds = {type(one) for one in array.ravel() if isinstance(one, (str, bytes))}
            mixed = kinds and not all(isinstance(one, (str, bytes)) for one in array.ravel())
            array = array if mixed else np.array(array.tolist())
    except ValueError as error:
        raise BadInput(
            f"data: {name} holds objects of several shapes. Needed: one shape."
        ) from error
    if array.dtype == object:
        found = sorted({type(one).__name__ for one in array.ravel()[:1000]})
        raise BadInput(
            f"data: {name} holds objects of the types {', '.join(found)}. Needed: numbers, or for "
            "labels texts."
        )
    return array


def _numbered(parts):
    """The names of the classes, if labels are texts, and the parts with integers as labels."""
    kinds = {part: y.dtype.kind for part, (_, y) in parts.items()}
    names: tuple = ()
    if "U" in kinds.values():
        if set(kinds.values()) != {"U"}:
            raise BadInput(
                "data: some parts have texts as labels, and others numbers. Needed: one kind."
            )
        names = tuple(np.unique(parts["train"][1]).tolist())
    numbered = {}
    for part, (x, y) in parts.items():
        if names:
            strange = sorted(set(y.tolist()) - set(names))
            if strange:
                raise _strange(part, strange[0], names)
            y = np.searchsorted(names, y)
        numbered[part] = Part(x, y.astype("int32"))
    return names, numbered


def _check_numbers(name, array):
    """Refuse what is no numbers."""
    if array.dtype.kind not in "iufb":
        raise BadInput(f"data: {name} has dtype {array.dtype}. Needed: numbers.")


def _check_counts(part, x, y):
    """Refuse a part without an example, or whose arrays do not all have as many."""
    given = nests.named(x, f"x_{part}") | nests.named(y, f"y_{part}")
    if not nests.flat(x) or not nests.flat(y):
        raise BadInput(f"data: x_{part} or y_{part} holds no array. Needed: at least one of each.")
    alone = [name for name, array in given.items() if not array.ndim]
    if alone:
        raise BadInput(f"data: {alone[0]} is one number. Needed: one for each example.")
    (first, number), *others = ((name, len(array)) for name, array in given.items())
    for name, other in others:
        if other != number:
            hint = " Lists of arrays are several inputs or outputs; numpy.stack makes one array."
            raise BadInput(
                f"data: {first} has {number} examples, {name} {other}. Needed: as many labels as "
                f"examples, and as many of each.{hint if len(given) > 2 else ''}"
            )
    if not number:
        raise BadInput(f"data: the part {part} has no examples.")


def _strange(part, label, known):
    shown = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
    return BadInput(
        f"data: y_{part} has the label {label}, and the training part does not. Needed: labels of "
        f"the training part ({shown})."
    )


def _classes_of(parts):
    """The number of classes, if the labels of all parts are 0 .. classes - 1."""
    known = np.unique(parts["train"].y)
    if len(known) > 2 and 2 * len(known) > len(parts["train"]):
        raise BadInput(
            f"data: {len(parts['train'])} training examples have {len(known)} different labels. "
            f"{CLASSIFICATION}"
        )
    if known[0] != 0 or known[-1] != len(known) - 1:
        shown = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
        raise BadInput(
            f"data: the training labels are {shown}. Needed: 0 to classes - 1, each at least once, "
            "as numpy.unique(y, return_inverse=True)[1] makes them."
        )
    for part, examples in parts.items():
        strange = np.setdiff1d(examples.y, known)
        if len(strange):
            raise _strange(part, strange[0], known)
    if len(known) < 2:
        raise BadInput("data: there is one class only. Needed: at least two.")
    return len(known)
