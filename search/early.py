"""What the command can refuse before it imports Keras, and the backend that Keras gets.

An import of Keras takes seconds; a misspelled word or a missing file is an answer at once.
"""

import importlib.util
import json
import os
import pathlib

from search import data as datasets
from search import executors
from search.data import places, splits
from search.errors import BadInput, unknown
from search.measure import Measure
from search.names import (
    ARCHITECTURE_OF,
    ARCHITECTURES,
    BACKENDS,
    EXECUTOR_OPTIONS,
    NORM_KEYS,
    NORMS,
    ORACLES,
    ORIGINAL,
    PLACEMENTS,
    TRANSFORMS,
    direction_of,
    is_saved,
    key,
    norm_key,
)


def check(options):
    """Refuse what is wrong in the command's options, as far as that is known without Keras.

    Args:
        options: what the parser read. A file of data is loaded and put in the place of its name.
    """
    _check_words(options)
    splits.check(options.splits, splits.seeds_for(options.seeds, options.splits))
    _check_frozen(max(options.frozen_epochs), options)
    if options.model is not None:
        if options.width is not None:
            raise BadInput(
                f"--width {options.width} with --model. Needed: --arch; a function of your own "
                "sets its own width."
            )
        if not is_saved(options.model):
            split_place(options.model)
        elif not os.path.isfile(options.model):
            raise BadInput(f"--model {options.model!r}: there is no such file.")
    _check_folder(options.out)
    _check_data(options)


def architecture_for(options):
    """The name of the architecture where neither that nor a model was named."""
    if options.data in ARCHITECTURE_OF:
        return ARCHITECTURE_OF[options.data]
    loaded = getattr(options, "loaded", None)
    if options.task == "tokens" or (loaded and loaded.task == "tokens"):
        return "transformer"
    to_images = options.task == "segmentation"
    if loaded:
        to_images = len(loaded.output_shape) > 1
    if to_images:
        return "pix2pixgenerator"
    return "mlp" if loaded and len(loaded.input_shape) == 1 else "resnet8"


def of_executor(options):
    """The options of the executor among those of the command."""
    return {name: getattr(options, name) for name in EXECUTOR_OPTIONS}


def _check_words(options):
    if options.oracle not in ORACLES:
        raise unknown("oracle", options.oracle, ORACLES)
    executors.check(options.executor, **of_executor(options))
    if options.arch is not None and key(options.arch) not in map(key, ARCHITECTURES):
        raise unknown("architecture", options.arch, ARCHITECTURES)
    for word in split_words(options.placements):
        if word not in PLACEMENTS:
            raise unknown("placement", word, PLACEMENTS)
    # A module of the user's may register norms of its own.
    baselines = [word for word in split_words(options.baselines) if word != ORIGINAL]
    norms = (*split_words(options.norms), *baselines)
    known_only = options.model is None and not options.imports
    for word in norms if known_only else ():
        if norm_key(word) not in NORM_KEYS:
            raise unknown("norm", word, NORMS)
    for word in split_words(options.transforms):
        name = word.partition(":")[0]
        if key(name) not in map(key, TRANSFORMS):
            raise unknown("transform", name, TRANSFORMS)
    if options.callbacks is not None:
        split_place(options.callbacks, "--callbacks")
    if options.objective not in (None, "measure"):
        direction_of(options.objective)
    if options.measure is not None:
        place = Measure.of(options.measure).name
        if ":" in place:
            split_place(place, "--measure")


def split_words(text):
    """The words of a comma-separated list."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def split_place(place, flag="--model"):
    """The module, or the path of its file, and the name that `MODULE:FUNCTION` holds."""
    module, separator, name = place.rpartition(":")
    if not separator or not module or not name:
        raise BadInput(f"{flag} {place!r}. Needed: MODULE:FUNCTION, such as my_models.py:build.")
    if not module.endswith(".py"):
        return module, name
    path = pathlib.Path(module)
    if not path.is_file():
        raise BadInput(f"{flag} {place!r}: there is no file {module}.")
    try:
        compile(path.read_bytes(), module, "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{flag} {place!r}: {error}. Needed: a file of Python.") from error
    return module, name


def _check_frozen(most, options):
    """Refuse frozen epochs where no weights are to start from, or too many of them."""
    if most and options.model is None:
        raise BadInput(
            f"--frozen-epochs {most} without --model, so there are no weights to start from. "
            "Needed: a trained --model, or --frozen-epochs 0."
        )
    if most and most >= options.epochs:
        raise BadInput(
            f"--frozen-epochs {most} of --epochs {options.epochs}. Needed: fewer than the epochs."
        )


def _check_folder(out):
    """Refuse a place that cannot become a folder."""
    path = pathlib.Path(out)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise BadInput(f"--out {out!r}: {place} is a file. Needed: a folder.")
            if not os.access(place, os.W_OK | os.X_OK):
                raise BadInput(f"--out {out!r}: {place} is read-only. Needed: another folder.")
            return


def _check_data(options):
    word = options.data
    if not word.startswith("tfds:"):
        for flag, value in (("--data-dir", options.data_dir), ("--image-size", options.image_size)):
            if value is not None and not (flag == "--image-size" and places.is_folder(word)):
                raise BadInput(f"{flag} with --data {word!r}. Needed: --data tfds:NAME.")
    elif importlib.util.find_spec("tensorflow_datasets") is None:
        raise BadInput(
            f"--data {word!r} needs tensorflow_datasets. Needed: pip install 'kerasnorm[datasets]'."
        )
    elif not word.removeprefix("tfds:"):
        raise BadInput(f"--data {word!r}. Needed: tfds:NAME, such as tfds:mnist.")
    if places.is_function(word):
        # It is called later: it may import Keras.
        split_place(word, "--data")
    elif places.is_file(word):
        options.loaded = datasets.load(word, task=options.task)
        if options.augment:
            datasets.checked_augmentation(options.loaded, True)
    elif not (word in datasets.DATA or word.startswith("tfds:") or places.is_folder(word)):
        datasets.load(word)
    elif word in datasets.DATA and options.task is not None:
        datasets.load(word, task=options.task)


# The backend.


def choose_backend(asked=None):
    """The backend that Keras will run on.

    In this order: what `--backend` names, what KERAS_BACKEND names, what Keras's own configuration
    names if that is installed, and the first that is installed.

    Args:
        asked: the value of `--backend`.

    Returns:
        Its name, and a sentence for the user where the user did not choose it.
    """
    installed = [name for name in BACKENDS if _is_installed(name)]
    for name, source in (
        (asked, "--backend "),
        (os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND="),
    ):
        if name:
            if name not in BACKENDS:
                raise BadInput(
                    f"{source}{name} is not a backend of this package. Needed: one of "
                    f"{', '.join(BACKENDS)}."
                )
            if name not in installed:
                raise BadInput(f"{source}{name}: {name} is not installed. {_needed(installed)}")
            return name, None
    if not installed:
        raise BadInput(f"no backend of Keras is installed. {_needed(installed)}")
    configured = _configured()
    name = configured if configured in installed else installed[0]
    others = [one for one in installed if one != name]
    if not others:
        return name, f"Keras runs on {name}, the backend that is installed."
    why = "the backend in keras.json" if name == configured else "the first that is installed"
    return name, f"Keras runs on {name}, {why}. Others: --backend {' or '.join(others)}."


def _needed(installed):
    """What to do where a backend is missing."""
    if installed:
        return f"Needed: --backend {' or '.join(installed)}, or an installation of it."
    return f"Needed: one of {', '.join(BACKENDS)}, such as pip install 'kerasnorm[jax]'."


def _is_installed(package):
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        return False
    # A folder of that name without code is no installation.
    return spec is not None and spec.origin is not None


def _configured():
    """The backend that Keras's configuration file names, if there is one."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser(os.path.join("~", ".keras"))
    try:
        return json.loads(pathlib.Path(home, "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
