"""Oracles as the driver asks them: each fault of KerasTuner's that must not reach a user."""

import itertools
import math

import keras_tuner
import numpy as np
import pytest

from benchmarks.oracle import compared, space_of_resnet
from search.errors import BadInput
from search.jsonable import jsonable
from search.names import ORACLES
from search.oracle import OWN_PREFIX, Asker, TPEOracle, make, objective_of
from search.space import NormSpace
from small_search import OBJECTIVE

SMALL = {"sites": [16, 32], "norms": ["batch", "layer", "mode"], "placements": "all,first"}


def asker_of(name, trials=30, seed=0, space=None, enqueue=True):
    space = space or NormSpace(**SMALL)
    oracle = make(name, OBJECTIVE, trials, seed, epochs=9)
    return Asker(oracle, space, space.paper_defaults() if enqueue else (), trials)


def drive(asker, count=100, replayed=(), status="completed"):
    """Ask and tell; the values asked for."""
    asked = []
    while len(asked) < count:
        if len(asked) < len(replayed):
            answer = asker.replay(jsonable(replayed[len(asked)]))
        else:
            answer = asker.ask()
        if answer is None:
            break
        number, trial = answer
        values = dict(trial.hyperparameters.values)
        asked.append(values)
        asker.tell(number, status, score_of(values), step=2)
    return asked


def score_of(values):
    known = {"batch": 5, "layer": 3, "mode": 1}
    return 0.1 * known.get(values.get("norm"), 4) + 0.01 * values.get("mode/modes", 0)


@pytest.mark.parametrize("name", ORACLES)
def test_no_point_twice_and_the_whole_of_a_small_space(name):
    asker = asker_of(name)
    asked = drive(asker)
    fresh = [values for values in asked if f"{OWN_PREFIX}trial_id" not in values]
    keys = [asker.space.key(values) for values in fresh]
    assert len(set(keys)) == len(keys)
    assert len(keys) == asker.space.size() == 11
    assert asker.ask() is None
    assert asker.exhausted


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "grid"])
def test_the_papers_defaults_come_first(name):
    asker = asker_of(name)
    names = [values["norm"] for values in drive(asker, 3)]
    assert names == ["batch", "layer", "mode"]


@pytest.mark.parametrize("name", ORACLES)
def test_replaying_brings_the_same_state_back(name):
    space = NormSpace([16, 32])
    asked = drive(asker_of(name, 30, space=space), 14)
    again = drive(asker_of(name, 30, space=space), 14, replayed=asked[:9])
    assert again == asked


def test_replaying_what_the_oracle_would_not_have_asked_is_refused():
    with pytest.raises(BadInput, match="where the journal has"):
        asker_of("tpe").replay({"norm": "conv"})


@pytest.mark.parametrize("name", ORACLES)
def test_many_failures_in_a_row_neither_raise_nor_lock(name):
    asker = asker_of(name)
    assert len(drive(asker, 8, status="failed")) == 8


@pytest.mark.parametrize("score", [math.inf, -math.inf, math.nan, None])
def test_a_score_that_is_no_number_is_a_failure(score):
    asker = asker_of("tpe")
    number, trial = asker.ask()
    asker.tell(number, "completed", score)
    assert trial.status == "FAILED"


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_seed_0_is_a_seed(name):
    space = NormSpace([16, 32])
    runs = [drive(asker_of(name, seed=0, space=space, enqueue=False), 5) for _ in range(2)]
    assert runs[0] == runs[1]
    assert drive(asker_of(name, seed=1, space=space, enqueue=False), 5) != runs[0]


def test_directions_are_never_guessed():
    assert objective_of("val_accuracy").direction == "max"
    assert objective_of("val_my_score:max").direction == "max"
    with pytest.raises(BadInput, match=r"val_my_score.*does not say whether less or more"):
        objective_of("val_my_score")
    # Both words are in it.
    with pytest.raises(BadInput, match=r"val_accuracy_loss.*does not say"):
        objective_of("val_accuracy_loss")
    with pytest.raises(BadInput, match="Needed: a name"):
        objective_of(["val_loss"])


def test_hyperband_promotes_although_trials_fail():
    asker = asker_of("hyperband", space=NormSpace([16, 32]))
    promoted = []
    for _ in range(30):
        number, trial = asker.ask()
        values = trial.hyperparameters.values
        if f"{OWN_PREFIX}trial_id" in values:
            promoted.append(int(values[f"{OWN_PREFIX}trial_id"]))
            assert number in asker.needed()
        status = "failed" if number % 3 == 0 else "completed"
        asker.tell(number, status, 0.01 * number)
    assert promoted
    assert all(number % 3 for number in promoted)


def test_the_oracle_writes_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drive(asker_of("random"), 3)
    assert not list(tmp_path.iterdir())


def test_unknown_words():
    with pytest.raises(BadInput, match=r"oracle 'tpo' is unknown. Near it: tpe"):
        make("tpo", OBJECTIVE, 3)
    with pytest.raises(BadInput, match=r"Needed: a keras_tuner\.Oracle"):
        Asker("tpe")


def test_tpe_saves_and_restores_its_state(tmp_path):
    def fresh():
        oracle = TPEOracle(OBJECTIVE, max_trials=20, seed=3)
        oracle.verbose = 0
        hp = oracle.get_space()
        NormSpace([16, 32]).declare(hp)
        oracle.update_space(hp)
        oracle._set_project_dir(tmp_path, "state")
        return oracle

    oracle = fresh()
    for number in range(12):
        trial = oracle.create_trial("tuner")
        if number % 4 == 1:
            oracle.mark_stopped(trial.trial_id)
        oracle.update_trial(trial.trial_id, {"val_error": 1 / (1 + number)}, step=number)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    restored = fresh()
    restored.reload()
    assert restored.stopped == oracle.stopped
    assert restored.populate_space("12") == oracle.populate_space("12")


def test_tpe_learns_and_sees_conditions():
    space = NormSpace([64, 64])

    def error(values):
        wanted = {
            "norm": ("ilm_group", 0.2),
            "placement": ("all", 0.1),
            "ilm_group/mean_activation": ("sigmoid", 0.05),
            "ilm_group/variance_activation": ("relu", 0.05),
            "ilm_group/groups": (8, 0.05),
        }
        return sum(loss for name, (best, loss) in wanted.items() if values.get(name) != best)

    late = {"tpe": [], "random": []}
    for name, seed in itertools.product(late, range(3)):
        asker = asker_of(name, 50, seed, space, enqueue=False)
        errors = []
        while (asked := asker.ask()) is not None:
            number, trial = asked
            errors.append(error(trial.hyperparameters.values))
            asker.tell(number, "completed", errors[-1])
        late[name].append(np.mean(errors[25:]))
    assert np.mean(late["tpe"]) < 0.7 * np.mean(late["random"])


def test_a_users_own_oracle_goes_through():
    space = NormSpace(**SMALL)
    oracle = keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, max_trials=4, seed=5)
    assert len(drive(Asker(oracle, space))) == 4


def test_a_short_search_of_all_norms_finds_more_than_random_search():
    # So many whatever is added: with other norms the draws would be others.
    plain = "batch,group,instance,layer"
    papers = "ilm_group,ilm_instance,ilm_layer,associate,mode,mode_group,conv,learned_stats"
    space = space_of_resnet(f"{plain},{papers}")
    for kind in ("neutral", "default"):
        ((mean, _),) = compared(space, kind, ["search"], [20], 6)["search"]
        assert mean < -0.2
