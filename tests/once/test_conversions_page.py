"""docs/convert.md has the tables of the committed figures; other tasks have errors in them."""

import types

import keras
import numpy as np
import pytest

import kerasnorm
from benchmarks import cli, convert, convert_tables, convert_tasks, convert_training
from benchmarks.private import PrivateAdam
from examples import task_sets
from readme import ROOT

FOUND = convert.read(ROOT / convert.FILE)
ORIGINAL = {"task": "t/N", "seed": 0, "kind": "original", "origin": "layer", "error": 0.2}
ORIGINAL |= {"measure": "token error", "guess": 1.0, "parameters": 100}
AT_ONCE = {"kind": "at once", "agreement": 0.5, "parameters": 0.01, "seconds": 1.0}


def figures(seed, error, norm="ilm_layer", way="converted"):
    """An original, and a network that is made of it."""
    key = {"task": "t/N", "seed": seed}
    return [ORIGINAL | key, AT_ONCE | key | {"norm": norm, "way": way, "error": error}]


def test_the_page_has_the_tables_of_the_file():
    page = (ROOT / "docs" / "convert.md").read_text("utf-8")
    assert convert_tables.BLOCK.search(page).group() == convert_tables.text(FOUND)


@pytest.mark.parametrize(
    ("error", "share"), [(0.2, 1), (0.6, 0.5), (1.0, 0), (1.8, -1), (0.1, 1.125)]
)
def test_what_is_kept_of_the_gain_over_a_guess(error, share):
    original, new = figures(0, error)
    assert convert_tables.kept(new, original) == pytest.approx(share)
    table = convert_tables.text([original, new])
    assert "**t/N, 1 seed: test token error at once**" in table
    assert "|  | a guess | 1.0000 | 0.0 | - | - | - |" in table
    assert "| layer | as it was | 0.2000 | 100.0 | 100.0 | +0.0% | - |" in table
    row = f"| ilm_layer | converted | {error:.4f} | {100 * share:.1f} | 50.0 | +1.0% | 1 |"
    assert row in table
    assert f"| t/N | 1 | {100 * share:.1f} | - | +1.0% | - |" in table


def test_a_network_from_a_file_trains_as_the_new_one_did(tmp_path, monkeypatch):
    trained = task_sets.trained
    monkeypatch.setattr(task_sets, "trained", lambda data, seed: trained(data, seed, epochs=1))
    task = convert_tasks.OtherTask("diabetes/MLP", 0, convert.Kept(tmp_path / "f"), tmp_path)
    new, kept = task.trained(), task.trained()
    assert kept is not new
    assert kept.compiled
    assert type(kept.loss) is type(new.loss)
    assert kept.optimizer.learning_rate == new.optimizer.learning_rate


def test_each_seed_is_compared_with_its_own_original():
    found = [*figures(0, 0.6), *figures(1, 0.6)]
    found[2]["error"] = 0.6
    assert "| ilm_layer | converted | 0.6000 | 75.0 |" in convert_tables.text(found)


def test_accuracies_and_errors_are_in_tables_of_their_own():
    tables = convert_tables.text([*FOUND, *figures(0, 0.6)])
    _, goals = tables.split("**Kept of the original's accuracy, ilm_layer, %**")
    accuracies, errors = goals.split("**Kept of what the original gains over a guess")
    assert "digits/ResNet8" in accuracies
    assert "t/N" not in accuracies
    assert "| t/N | 1 | 50.0 |" in errors


def test_a_new_domain_has_a_table():
    key = {"task": "t/N", "seed": 0, "accuracy": 0.9}
    original = key | {"kind": "original", "other": 0.5, "parameters": 100}
    renewed = AT_ONCE | key | {"norm": "batch", "way": "re-estimated", "other": 0.75}
    assert "| t/N | 50.0 | - | - | - | 75.0 | - |" in convert_tables.text([original, renewed])


def test_private_training_ends_early_and_has_rivals_of_its_own():
    key = {"task": "t/N", "kind": "tuned", "on": "private"}
    found = [{"task": "t/N", "seed": 0, "kind": "original", "accuracy": 0.9, "other": 0.5}]
    for norm, way, share in (("ilm_layer", "converted", 0.6), ("group", "swapped", 0.1)):
        after = {"0": share, "20": share, "100": share}
        entry = key | {"norm": norm, "way": way, "accuracy": after}
        found += [entry | {"seed": seed} for seed in range(3)]
    tables = convert_tables.text(found)
    cells = "10.0 ± 0.0 | 10.0 ± 0.0 | 10.0 ± 0.0 | - |"
    assert f"| another domain, private | group | swapped | {cells}" in tables
    assert "| another domain, private | group, swapped | 50.0 ± 0.0 |" in tables


def test_the_picture_has_a_panel_for_each_other_task(tmp_path):
    convert_tables.draw(figures(0, 0.6), tmp_path / "errors.png")
    convert_tables.draw([*FOUND, *figures(0, 5.0)], tmp_path / "both.png")
    assert (tmp_path / "errors.png").stat().st_size < (tmp_path / "both.png").stat().st_size


def test_some_tasks_are_shown_alone(capsys):
    assert cli.main(["convert", "--show", "--tasks", "digits/ResNet8,diabetes/MLP"]) == 0
    tables = capsys.readouterr().out
    assert "digits/ResNet8" in tables
    assert "diabetes/MLP" in tables
    assert "multidomain" not in tables
    with pytest.raises(SystemExit, match="Needed: some of digits/ResNet8"):
        cli.main(["convert", "--show", "--tasks", "digits/ResNet8,digits/Net"])


@pytest.mark.parametrize(("backend", "compiled"), [("jax", True), ("torch", False)])
def test_steps_on_jax_are_compiled(backend, compiled, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    asked = {}
    optimizer = types.SimpleNamespace(build=lambda variables: None)
    model = types.SimpleNamespace(
        compile=lambda *_, **given: asked.update(given), optimizer=optimizer, trainable_variables=[]
    )
    convert_training.compile_for_training(model, lambda: optimizer)
    assert asked == {"jit_compile": compiled}


def test_norms_are_others_than_the_original_one():
    assert convert_tasks.norms_from("group") == ("layer", "batch", "ilm_layer")


def test_a_network_with_another_norm_gets_batch_norm():
    unit = convert_tasks.OtherTask.__new__(convert_tasks.OtherTask)
    unit.old = kerasnorm.models.Transformer((4,), 5, "layer", width=4, heads=1, blocks=1)
    new = unit.way("batch", "swapped")
    assert isinstance(new.get_layer("last_norm"), kerasnorm.BatchNorm)
    assert isinstance(unit.old.get_layer("last_norm"), kerasnorm.LayerNorm)


def test_a_regression_is_converted(tmp_path, monkeypatch, capsys):
    network = task_sets.NETWORKS["diabetes"]._replace(epochs=5)
    monkeypatch.setitem(task_sets.NETWORKS, "diabetes", network)
    monkeypatch.setattr(convert, "DISTILLATION", 2)
    monkeypatch.setattr(convert_tasks, "EXAMPLES", (8, 100000))
    path = tmp_path / "figures.jsonl"
    command = ["convert", "--tasks", "diabetes/MLP", "--seeds", "0", "--file", str(path)]
    assert cli.main(command) == 0
    found = convert.read(path)
    assert [entry["kind"] for entry in found] == ["original", *["at once"] * 10, "examples", "step"]
    original, *others = found
    assert original["measure"] == "mean squared error"
    assert original["guess"] == pytest.approx(task_sets.guess(task_sets.diabetes()))
    ways = {(entry["norm"], entry["way"]): entry for entry in others[:10]}
    assert set(ways) == {
        *((norm, way) for norm in convert.NORMS for way in convert.WAYS),
        ("ilm_layer", "distilled"),
    }
    for entry in ways.values():
        assert entry["agreement"] <= 1
    # It goes on from there: nothing is missing.
    assert cli.main(command) == 0
    assert convert.read(path) == found
    capsys.readouterr()
    assert cli.main([*command, "--show"]) == 0
    assert "diabetes/MLP, 1 seed: test mean squared error at once" in capsys.readouterr().out


def test_small_networks_are_timed_too(capsys, monkeypatch):
    monkeypatch.setitem(convert.TASKS, "digits/ResNet8", {"width": 2, "epochs": 0})
    command = ["conversion-time", "--examples", "16", "--steps", "1", "--networks"]
    assert cli.main([*command, "digits/ResNet8"]) == 0
    *_, row = capsys.readouterr().out.strip().splitlines()
    name, norm, norms, *_, adam, sgd = row.strip("| ").split(" | ")
    assert (name, norm, norms) == ("digits/ResNet8", "ilm_layer", "7")
    assert float(adam) > 0
    assert float(sgd) > 0
    with pytest.raises(SystemExit, match="Needed: one of ResNet50, digits/ResNet8"):
        cli.main([*command, "diabetes/MLP"])


def test_clients_train_apart_and_go_on_with_their_mean():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), np.repeat(np.arange(10), 8)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(10, "softmax")])
    convert_training.compile_for_training(model)
    start = model.get_weights()
    ends = []
    for client in range(5):
        model.set_weights(start)
        convert_training.forget(model.optimizer)
        own = slice(16 * client, 16 * client + 16)
        convert_training.train(model, x[own], y[own], 4, 16, [7, 0, client], rate=lambda step: 3e-4)
        ends.append(model.get_weights())
    model.set_weights(start)
    convert_training.train_further(model, x, y, 20, convert_training.TRAININGS["clients"], 7)
    for value, before, *of_clients in zip(model.get_weights(), start, *ends, strict=True):
        np.testing.assert_allclose(value, np.mean(of_clients, 0), rtol=1e-6)
        assert not np.allclose(value, before)


def gradients(model, x, y):
    """Of each example: a step of plain descent with a rate of 1 shows it."""
    start = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    found = []
    for row in range(len(y)):
        model.train_on_batch(x[row : row + 1], y[row : row + 1])
        found.append([a - b for a, b in zip(start, model.get_weights(), strict=True)])
        model.set_weights(start)
    return found


@pytest.mark.parametrize("clip", [1.0, 100.0])
def test_private_steps_clip_each_example(clip):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)).astype("float32"), rng.integers(0, 4, 6)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "softmax")])
    of_examples = gradients(model, x, y)
    norms = [np.sqrt(sum((part**2).sum() for part in one)) for one in of_examples]
    assert min(norms) < 1 < max(norms) < 100
    optimizer = PrivateAdam(6, clip=clip, noise=0.0, learning_rate=0.01)
    start = model.get_weights()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    for row in range(6):
        model.train_on_batch(x[row : row + 1], y[row : row + 1])
    shortened = [
        [min(1, clip / norm) * part for part in one]
        for one, norm in zip(of_examples, norms, strict=True)
    ]
    # After Adam's first step, its first moments are a tenth of the gradient.
    for index, moment in enumerate(optimizer._momentums):
        mean = np.mean([one[index] for one in shortened], 0)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(moment), mean / 10, rtol=1e-3)
    for now, before in zip(model.get_weights(), start, strict=True):
        np.testing.assert_allclose(np.abs(now - before), 0.01, rtol=0.01)


def test_private_steps_have_noise():
    weight = keras.Variable(np.zeros((20000,), "float32"))
    moments = []
    for seed in (0, 0, 1):
        optimizer = PrivateAdam(4, clip=0.5, noise=2.0, seed=seed)
        optimizer.build([weight])
        for _ in range(4):
            optimizer.apply([keras.ops.zeros(weight.shape)], [weight])
        (moment,) = optimizer._momentums
        moments.append(keras.ops.convert_to_numpy(moment))
    # Noise times clip, in the mean of 4; a tenth of it is in the first moments.
    assert moments[0].std() == pytest.approx(0.1 * 2.0 * 0.5 / 4, rel=0.03)
    assert abs(moments[0].mean()) < 0.001
    np.testing.assert_array_equal(moments[0], moments[1])
    assert not np.allclose(moments[0], moments[2])


def test_private_training_takes_one_example_at_a_time():
    seen = []
    network = types.SimpleNamespace(
        optimizer=types.SimpleNamespace(), train_on_batch=lambda x, y: seen.append(len(x))
    )
    private = convert_training.TRAININGS["private"]
    convert_training.train_further(network, np.zeros((300, 2)), np.zeros(300), 2, private, 0)
    assert seen == [1] * (2 * private.batch_size)


def test_a_classifier_is_converted_and_trained_further(tmp_path, monkeypatch):
    monkeypatch.setitem(convert.TASKS, "digits/ResNet8", {"width": 2, "epochs": 1, "private": True})
    monkeypatch.setattr(convert, "EXAMPLES", (8,))
    monkeypatch.setattr(convert, "MOST_TESTED", 60)
    monkeypatch.setattr(
        convert, "AT_ONCE", [("batch", "re-estimated"), ("ilm_layer", "re-estimated")]
    )
    trainings = {on: convert.TRAININGS[on] for on in ("same 2", "private", "clients")}
    trainings["private"] = trainings["private"]._replace(batch_size=2)
    monkeypatch.setattr(convert, "TRAININGS", trainings)
    monkeypatch.setattr(convert, "TUNED", [("ilm_layer", "converted")])
    monkeypatch.setattr(convert, "STEPS", (20,))
    path = tmp_path / "figures.jsonl"
    command = ["convert", "--tasks", "digits/ResNet8", "--seeds", "0", "--file", str(path)]
    assert cli.main(command) == 0
    found = convert.read(path)
    kinds = ["original", "at once", "at once", "examples", "other examples", "step"]
    assert [entry["kind"] for entry in found] == [*kinds, "tuned", "tuned", "tuned"]
    # The conversion of the network with other statistics computes what that one does.
    original, batch, ilm = found[:3]
    assert ilm["other"] == pytest.approx(batch["other"], abs=0.04)
    for entry, before in zip(found[-3:], ("accuracy", "other", "other"), strict=True):
        assert entry["accuracy"]["0"] == pytest.approx(original[before], abs=0.04)
    # It goes on from there: nothing is missing.
    assert cli.main(command) == 0
    assert convert.read(path) == found
