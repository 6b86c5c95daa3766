"""The words that the search understands, where no Keras is needed to know them.

Importing Keras takes seconds, and a misspelled word should be refused at once. Norms are those of
the table in `kerasnorm.norms`; tests compare the other lists with what they stand for.
"""

import importlib.util
import os
import sys

from search.errors import BadInput

BACKENDS = ("tensorflow", "jax", "torch")
DATA = ("digits", "multidomain")


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
    "NIN",
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
# Well-known metrics of the validation part, and whether less or more of each is better.
DIRECTIONS = {
    "val_error": "min",
    "val_loss": "min",
    "val_accuracy": "max",
    "val_sparse_categorical_accuracy": "max",
    "val_categorical_accuracy": "max",
}


def key(word):
    """What two ways of writing an architecture or a transformation share.

    >>> from search.names import key
    >>> key("Scale-And_Pad")
    'scaleandpad'
    """
    return word.strip().lower().replace("_", "").replace("-", "")


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
    >>> direction_of("val_f1_score:max")
    ('val_f1_score', 'max')
    """
    name, _, direction = objective.partition(":")
    direction = direction or DIRECTIONS.get(name)
    if not name or direction not in ("min", "max"):
        raise BadInput(
            f"objective {objective!r} does not say whether less or more of it is better. Needed: "
            f"one of {', '.join(DIRECTIONS)}, or its name with :min or :max."
        )
    return name, direction
