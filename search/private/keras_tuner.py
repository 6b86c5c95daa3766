"""KerasTuner 1.4.8: its oracles own a folder, and do not say whose weights they will ask for."""

import collections
import copy
import functools

# Neither class is exported, and oracles answer with them.
from keras_tuner.src.engine.objective import MultiObjective as MultiObjective
from keras_tuner.src.engine.trial import TrialStatus as TrialStatus

# Methods of `keras_tuner.Tuner` that `search.NormTuner` replaces: the first builds a model to know
# the space, the second names the file of a state that the journal is instead.
REPLACED = ("_populate_initial_space", "_get_tuner_fname")


def write_nothing(oracle):
    """Keep an oracle from writing files: the journal is the one state."""
    oracle.save = oracle._save_trial = lambda *args: None


def has_tried(oracle):
    """The oracle's test whether values were tried already."""
    return oracle._duplicate


def promotable(oracle):
    """The numbers of the trials that Hyperband may go on from; none of other oracles."""
    brackets = getattr(oracle, "_brackets", ())
    return [
        int(info["id"]) for bracket in brackets for infos in bracket["rounds"] for info in infos
    ]


def begin_random_numbers(oracle, seed):
    """Let an oracle's own random numbers begin with a seed, also with 0.

    The constructor takes 0 for no seed.
    """
    oracle.seed = oracle._seed_state = seed


def copy_spaces_quickly(oracle):
    """Have the hyperparameters of an oracle's trials share what they do not change.

    `HyperParameters.copy` makes each of them anew from its configuration, with its conditions,
    which takes longer than a proposal.
    """
    oracle.hyperparameters.copy = functools.partial(_copied, oracle.hyperparameters)


def _copied(hyperparameters):
    new = copy.copy(hyperparameters)
    # The copy of a copy is made by KerasTuner's own way.
    vars(new).pop("copy", None)
    for name, value in vars(hyperparameters).items():
        if isinstance(value, collections.defaultdict):
            held = {key: list(entries) for key, entries in value.items()}
            setattr(new, name, collections.defaultdict(list, held))
        elif isinstance(value, list | dict):
            setattr(new, name, copy.copy(value))
    return new


def count_no_failures(oracle):
    """Keep an oracle from going through all trials at the end of each to count failed ones.

    It raises where there are too many in a row, inside of a lock that is not released then.
    """
    oracle._check_consecutive_failures = lambda: None
