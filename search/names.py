"""The words that the search understands, where no Keras is needed to know them.

Importing Keras takes seconds, and a misspelled word should be refused at once. Norms are those of
the table in `kerasnorm.norms`; tests compare the other lists with what they stand for.
"""

import importlib.util
import os
import re
import sys

from search.errors import BadInput

BACKENDS = ("tensorflow", "jax", "torch")
# The sets that come with the search, and the architecture that `--data` alone takes.
ARCHITECTURE_OF = {
    "digits": "resnet8",
    "multidomain": "resnet8",
    "diabetes": "mlp",
    "shapes": "pix2pixgenerator",
    "edges2photos": "pix2pixgenerator",
    "reversal": "transformer",
}
DATA = tuple(ARCHITECTURE_OF)
# What a network is trained for; the last one is whatever it is compiled for.
TASKS = ("classification", "regression", "segmentation", "tokens", "compiled")


def _table():
    """The module `kerasnorm.norms`, without the package around it, which imports Keras."""
    package = importlib.util.find_spec("kerasnorm")
    (folder,) = package.submodule_search_locations
    place = importlib.util.spec_from_file_location("search._norms", f"{folder}/norms.py")
    module = importlib.util.module_from_spec(place)
    # Where dataclasses look for it.
    sys.modules[place.name] = module
    place.loader.exec_module(module)
    return module


_norms = _table()
NORM_ROWS = _norms.ROWS
norm_key = _norms.key_of
PLAIN = tuple(row.name for row in NORM_ROWS if row.plain)
# What is searched if nothing is said: all but Keras's own, and the one that wraps another.
NORMS = tuple(row.name for row in NORM_ROWS if row.searched)
# By these keys `kerasnorm.get` knows its norms.
NORM_KEYS = frozenset(key for row in NORM_ROWS for key in row.keys)
PLACEMENTS = ("all", "first", "stages")
ARCHITECTURES = (
    "AllCNNC",
    "LeNet",
    "MLP",
    "NIN",
    "Pix2PixGenerator",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet50",
    "ResNet56",
    "ResNet8",
    "Transformer",
    "TransformerEncoder",
    "VGG13",
)
TRANSFORMS = ("blur", "cutout", "noise", "random_crop", "resize", "scale_and_pad")
ORACLES = ("tpe", "random", "bayesian", "hyperband", "grid")
# What runs trainings, and the options that each of them takes.
EXECUTORS: dict[str, tuple[str, ...]] = {
    "inline": (),
    "processes": ("workers", "trial_seconds"),
    "ray": ("workers", "trial_seconds", "address", "cpus_per_trial", "gpus_per_trial"),
}
EXECUTOR_OPTIONS = EXECUTORS["ray"]
# By these KerasTuner makes a process a chief or a worker of its own.
KERASTUNER_VARIABLES = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
)
# Parts of the names of metrics of which less is better, and of those of which more is.
LESS = re.compile(
    "error|loss|crossentropy|divergence|hinge|poisson|logcosh|log_cosh|(^|_)(mae|mape|mse|msle)$"
)
MORE = re.compile("acc(uracy)?($|_)|auc|precision|recall|iou|f1|fbeta|r2|similarity|sensitivity")


def key(word):
    """What two ways of writing an architecture or a transformation share.

    >>> from search.names import key
    >>> key("Scale-And_Pad")
    'scaleandpad'
    """
    return word.strip().lower().replace("_", "").replace("-", "")


def direction_by_name(metric):
    """`"min"` or `"max"` where a metric's name says which is better; else None.

    >>> from search.names import direction_by_name
    >>> direction_by_name("val_mean_squared_error"), direction_by_name("R2Score")
    ('min', 'max')
    """
    name = metric.lower()
    less, more = (bool(words.search(name)) for words in (LESS, MORE))
    return None if less == more else "min" if less else "max"


# The baseline that is a trained network as it is.
ORIGINAL = "original"


def is_saved(network):
    """Whether a network is the path of a saved model.

    >>> from search.names import is_saved
    >>> is_saved("trained.keras"), is_saved("resnet8")
    (True, False)
    """
    return isinstance(network, (str, os.PathLike)) and str(network).endswith(".keras")


def refuse_kerastuner_roles():
    """Refuse an environment that makes this process a chief or a worker of KerasTuner's."""
    found = [name for name in KERASTUNER_VARIABLES if name in os.environ]
    if found:
        raise BadInput(
            f"{', '.join(found)} is set: KerasTuner's own chief and workers can lose trials and "
            "are not used. Needed: unset it; --executor ray (executor='ray') uses several machines."
        )


def direction_of(objective):
    """The name and the direction of an objective that is given as text.

    >>> from search.names import direction_of
    >>> direction_of("val_my_score:max")
    ('val_my_score', 'max')
    """
    name, _, direction = objective.partition(":")
    direction = direction or direction_by_name(name)
    if not name or direction not in ("min", "max"):
        raise BadInput(
            f"objective {objective!r} does not say whether less or more of it is better. Needed: "
            "a name that does, such as val_error or val_accuracy, or one with :min or :max."
        )
    return name, direction
