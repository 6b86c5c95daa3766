"""`NormTuner` and `NormHyperModel` with plain KerasTuner code."""

import keras
import keras_tuner
import pytest

import search
from search.errors import BadInput, NothingCompleted, OtherSearch
from search.space import NormSpace, Place
from small_search import arrays, build, compile_eagerly

X, Y = arrays()
FIT = {"validation_data": (X[:32], Y[:32]), "batch_size": 32, "verbose": 0}
# The builder's sites: given, nothing is called to know them.
SPACE = [Place(8, (4, 4), 0), Place(8, (2, 2), 1)]


def hypermodel(**options):
    options = {"norms": ["batch", "mode"], "placements": "all"} | options
    space = NormSpace(SPACE, **options)
    return search.NormHyperModel(build, space=space, compile=compile_eagerly)


def tuner_of(folder, model=None, **options):
    options = {"max_trials": 3, "objective": "val_error"} | options
    return search.NormTuner(model or hypermodel(), directory=folder, project_name="p", **options)


def test_a_search_with_our_tuner_and_our_hypermodel(tmp_path, capsys):
    tuner = tuner_of(tmp_path)
    tuner.search(X, Y, epochs=2, **FIT)
    assert [row["status"] for row in tuner.rows()] == ["completed"] * 3
    (best,) = tuner.get_best_hyperparameters()
    (model,) = tuner.get_best_models()
    score = 1 - (model.predict(X[:32], verbose=0).argmax(-1) == Y[:32]).mean()
    assert score == pytest.approx(tuner.best_rows()[0]["score"], abs=1e-6)
    assert best.values == tuner.best_rows()[0]["values"]
    assert not list(tmp_path.rglob("*.json"))
    tuner_of(tmp_path).results_summary()
    tuner.search_space_summary()
    printed = capsys.readouterr().out
    assert "3 trials" in printed
    assert "3 completed" in printed
    assert "mode norm" in printed
    assert "mode/modes" in printed
    with pytest.raises(OtherSearch, match=r"fit.batch_size: 32 there, 16 here"):
        tuner_of(tmp_path).search(X, Y, epochs=2, **{**FIT, "batch_size": 16})
    with pytest.raises(OtherSearch, match=r"fit.0: .* there"):
        tuner_of(tmp_path).search(X + 1, Y, epochs=2, **FIT)


def test_our_hypermodel_with_kerastuners_own_tuner(tmp_path):
    builds = []
    model = hypermodel()
    plain_build = model.build
    model.build = lambda hp: builds.append(1) or plain_build(hp)
    tuner = keras_tuner.RandomSearch(
        model,
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=2,
        directory=tmp_path,
        seed=1,
    )
    assert len(builds) == 1
    assert {hp.name for hp in tuner.oracle.get_space().space} == {"norm", "mode/modes"}


def users(hp):
    """A hypermodel of somebody's, with a condition."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten()]
    if hp.Boolean("hidden"):
        with hp.conditional_scope("hidden", [True]):
            layers.append(keras.layers.Dense(hp.Choice("units", [4, 8])))
    model = keras.Sequential([*layers, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
    return model


def test_our_tuner_with_a_users_hypermodel_builds_once_a_trial(tmp_path):
    builds = []

    def counted(hp):
        builds.append(dict(hp.values))
        return users(hp)

    tuner = tuner_of(tmp_path, counted, max_trials=10)
    assert builds == []
    tuner.search(X, Y, **FIT)
    values = [row["values"] for row in tuner.rows()]
    # One more tells what the network is.
    assert len(builds) - 1 == len(values) == 3
    expected = [{"hidden": False}, {"hidden": True, "units": 4}, {"hidden": True, "units": 8}]
    assert sorted(map(str, values)) == sorted(map(str, expected))
    # And goes on from what it found on the way.
    again = tuner_of(tmp_path, counted, max_trials=10)
    again.search(X, Y, **FIT)
    assert [row["values"] for row in again.rows()] == values
    assert len(builds) == 5


def test_nothing_is_built_to_declare_the_space(tmp_path):
    calls = []

    def counted(norm):
        calls.append(norm)
        return build(norm)

    model = search.NormHyperModel(counted, space=NormSpace(SPACE))
    tuner_of(tmp_path, model)
    existing = build("batch")
    tuner_of(tmp_path, search.NormHyperModel(existing))
    assert calls == []


def test_failing_trials_do_not_end_the_search(tmp_path):
    model = hypermodel()
    model._builder = lambda spec: 1 / 0
    tuner = tuner_of(tmp_path, model, max_trials=5)
    with pytest.raises(NothingCompleted, match=r"5 of 5 failed[^$]*in <lambda>"):
        tuner.search(X, Y, **FIT)
    assert [row["status"] for row in tuner.rows()] == ["failed"] * 5
    assert "ZeroDivisionError" in tuner.rows()[-1]["traceback"]
    assert tuner.get_best_hyperparameters(3) == []


def test_a_changed_range_or_objective_is_refused(tmp_path):
    tuner_of(tmp_path).search(X, Y, **FIT)
    with pytest.raises(OtherSearch, match="space: "):
        tuner_of(tmp_path, hypermodel(norms=["batch", "group"])).search(X, Y, **FIT)
    with pytest.raises(OtherSearch, match='objective: "val_error" there, "val_loss" here'):
        tuner_of(tmp_path, objective="val_loss").search(X, Y, **FIT)
    tuner_of(tmp_path, objective="val_loss", overwrite=True).search(X, Y, **FIT)


def test_what_is_refused(tmp_path):
    with pytest.raises(BadInput, match="averages the seeds"):
        tuner_of(tmp_path, executions_per_trial=2)
    with pytest.raises(BadInput, match=r"val_my_score.*does not say whether less or more"):
        tuner_of(tmp_path, objective="val_my_score")
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=2)
    with pytest.raises(BadInput, match="differ"):
        tuner_of(tmp_path, oracle=oracle, objective="val_error")
    with pytest.raises(BadInput, match="num_models=2"):
        tuner_of(tmp_path).get_best_models(2)


def test_learning_rate_and_batch_size_are_used(tmp_path):
    model = hypermodel(norms=["batch"], learning_rates=[1e-3, 1e-2], batch_sizes=[16, 48])
    tuner = tuner_of(tmp_path, model, max_trials=4)
    fit = {key: value for key, value in FIT.items() if key != "batch_size"}
    tuner.search(X, Y, **fit)
    assert len({str(row["values"]) for row in tuner.rows()}) == 4
    built = model.model_of({"name": "batch"}, {"learning_rate": 1e-2})
    assert float(built.optimizer.learning_rate) == pytest.approx(1e-2)
