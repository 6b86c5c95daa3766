"""The benchmarks run, print what they measured, and notice what they must notice."""

import argparse
import json
import re
import time

import keras
import numpy as np
import pytest

import kerasnorm
from benchmarks import (
    BenchmarkError,
    backends,
    cli,
    contestants,
    literal,
    machine,
    measure,
    measure_networks,
    results,
    show,
    tables,
    targets,
)
from benchmarks.kept import kept_by_content
from benchmarks.timing import Progress, Stopwatch, interleave
from daily import daily, on_torch_daily
from kerasnorm import models

BACKEND = keras.backend.backend()
SHAPE = (4, 8, 8, 32)


def bench_of(dtype):
    options = argparse.Namespace(dtype=dtype, no_literal=False, rounds=1, quick=True)
    return measure.Bench(backends.current(), options, contestants.LAYERS, Progress())


@pytest.fixture(scope="module")
def bench():
    return bench_of("float32")


def layers_command(*arguments):
    names = ["--layers", "BatchNorm", "ModeNorm"]
    return cli.main(
        ["layers", "--quick", "--shapes", "x".join(map(str, SHAPE)), *arguments, *names]
    )


@on_torch_daily
def test_layers_command_prints_tables_and_writes_results(tmp_path, capsys):
    path = tmp_path / "results" / "layers.json"
    mode = backends.current().MODES[0]
    assert layers_command("--mode", mode, "--json", str(path)) == 0
    printed = capsys.readouterr().out
    for text in (
        f"{BACKEND} {mode}, train, 4x8x8x32 float32",
        f"{BACKEND} {mode}, inference, 4x8x8x32 float32",
        f"{BACKEND}, kept for the backward pass, 4x8x8x32 float32",
        "keras GroupNormalization(32)",
        "ModeNorm(2)",
        "limit (train)",
        f"Written to {path}",
    ):
        assert text in printed
    (run,) = results.read(path)
    assert run["backend"] == BACKEND
    assert run["versions"]["keras"] == keras.__version__
    assert {"cpu", "cores", "memory_gb", "system", "python", "date"} <= run["machine"].keys()
    for cell in run["cells"]:
        assert 0 < cell["min"] <= cell["ms"]
        assert cell["rounds"] == (1 if cell["role"] == "literal" else 3)
    names = {(cell["name"], cell["phase"]) for cell in run["cells"]}
    assert ("literal ModeNorm(2)", "train") in names
    assert ("BatchNorm", "inference") in names
    assert {entry["name"] for entry in run["kept"]} > {"BatchNorm", "ModeNorm(2)"}

    # Another run of the same kind replaces it, one of another kind stays.
    text = path.read_text()
    other = {**run, "backend": "another"}
    results.add(path, other)
    results.add(path, run)
    assert [r["backend"] for r in results.read(path)] == ["another", BACKEND]
    results.add(path, other)
    assert json.loads(text)["runs"][0] == run

    assert cli.main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"### {BACKEND} on" in shown
    assert "| ModeNorm(2) |" in shown
    document = tmp_path / "document.md"
    document.write_text("before\n{}\nouter\n{}\nafter\n".format(*show.MARKS))
    assert cli.main(["show", str(path), "--summary", "--into", str(document)]) == 0
    replaced = document.read_text()
    assert replaced.startswith("before\n")
    assert replaced.endswith("\nafter\n")
    assert "outer" not in replaced
    assert "| ModeNorm(2) |" in replaced


def small_network(norm, network):
    keras.utils.set_random_seed(0)
    model = models.LeNet(measure_networks.IMAGE, measure_networks.CLASSES, norm)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@on_torch_daily
def test_networks_command_prints_a_table_and_writes_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure_networks, "build", small_network)
    path = tmp_path / "networks.json"
    names = ["--norms", "ModeNorm(2)", "GroupNorm"]
    assert cli.main(["networks", "--quick", "--json", str(path), *names]) == 0
    printed = capsys.readouterr().out
    title = "training step of ResNet20, 8x32x32x3 float32"
    for text in (f"{BACKEND} ", title, "keras BatchNormalization", "ModeNorm(2)", "GroupNorm "):
        assert text in printed
    (run,) = results.read(path)
    assert [cell["name"] for cell in run["cells"]] == [
        "keras BatchNormalization",
        "GroupNorm",
        "ModeNorm(2)",
    ]
    assert all(0 < cell["min"] <= cell["ms"] and cell["rounds"] == 3 for cell in run["cells"])
    plain = run["cells"][0]["parameters"]
    assert [cell["parameters"] - plain for cell in run["cells"]] == [0, 0, 2 * 22 + 4]
    assert cli.main(["show", str(path)]) == 0
    assert "| ModeNorm(2) |" in capsys.readouterr().out
    assert cli.main(["networks", "--norms", "NoNorm"]) == 2


def test_the_network_can_have_every_layer():
    for contestant in contestants.LAYERS:
        spec = measure_networks.spec_of(contestant)
        network = models.plan(getattr(models, measure_networks.NETWORK), (32, 32, 3), 10, spec)
        assert len(network.sites) == 19
        assert type(network.sites[0].layer()).__name__ == contestant.layer
    assert measure_networks.spec_of(contestants.BASELINES[0]) == {"name": "keras_batch"}


def test_target_of_a_network():
    names = {"keras BatchNormalization": 100.0, "GroupNorm": 110.0, "ModeNorm(16)": 125.0}
    cells = [
        {
            **cell(name, ms, "keras" if name.startswith("keras") else "layer", phase="network"),
            "network": "ResNet20",
            "parameters": 270_000,
        }
        for name, ms in names.items()
    ]
    run = {**jax_run(cells), "command": "networks", "quick": False}
    (table,) = tables.of_run(run)
    assert "1 of 2 targets met" in table.notes
    assert "missed: ModeNorm(16)" in table.notes
    assert "<= 1.10 MISSED by 0.15" in table.text()
    assert tables.ratio_summary([run]) is None
    (quick,) = tables.of_run({**run, "quick": True})
    assert not any("targets" in note for note in quick.notes)


def test_options_that_do_not_fit_are_refused(capsys):
    other = "jax" if BACKEND != "jax" else "torch"
    assert layers_command("--backend", other) == 2
    assert f"Keras runs on {BACKEND}" in capsys.readouterr().err
    assert cli.main(["layers", "--layers", "NoNorm"]) == 2
    assert "NoNorm" in capsys.readouterr().err
    missing = {"tensorflow": None, "jax": "graph", "torch": "jit"}[BACKEND]
    if missing:
        assert layers_command("--mode", missing) == 2
        assert f"no mode {missing} on {BACKEND}" in capsys.readouterr().err
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["layers", "--shapes", "8x8"])


def test_show_refuses_other_files(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text("[]")
    assert cli.main(["show", str(path)]) == 2
    assert "no result file" in capsys.readouterr().err


def literal_cases():
    """Every layer where nothing is compiled, else a moving, a grouped and a gated one.

    Before it times a transcription, the benchmark itself makes the same comparison.
    """
    few = {"ConvNorm", "GroupNorm(32)", "ModeNorm(2)"}
    for contestant in contestants.LAYERS:
        yield pytest.param(contestant, "float32", marks=daily(contestant.label in few))
    for label in ("GroupNorm(32)", "ModeNorm(2)"):
        yield pytest.param(contestants.BY_LABEL[label], "bfloat16")


@pytest.mark.parametrize(("contestant", "dtype"), list(literal_cases()), ids=str)
def test_literal_transcriptions_agree_with_the_layers(contestant, dtype):
    bench = bench_of(dtype)
    layer = bench.layer(contestant, SHAPE)
    transcription = bench.layer(contestant, SHAPE, literal=True)
    x, dy = bench.tensors(SHAPE)
    mode = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}[BACKEND]
    names = ["the input", *(weight.name for weight in layer.trainable_variables)]
    steps = [bench.engine.train_step(each, x, dy, mode)() for each in (layer, transcription)]
    bench.check(contestant.label, *steps, names)
    assert len(steps[0][1]) == len(names)
    if BACKEND == "jax":
        layer(x, training=True)
        transcription(x, training=True)
    for ours, theirs in zip(
        layer.non_trainable_variables, transcription.non_trainable_variables, strict=True
    ):
        assert measure.difference(ours.value, theirs.value) < measure.TOLERANCES[dtype], ours.name


def test_a_layer_that_differs_from_its_transcription_is_refused(bench):
    x, _ = bench.tensors(SHAPE)
    with pytest.raises(BenchmarkError, match=r"differ by 0\.\d+ in gradient of gamma"):
        bench.check("Some", (x, [x, x]), (x, [x, x * 1.5]), ["the input", "gamma"])


class KeepsMore(kerasnorm.GroupNorm):
    """Right, but its output goes through something that keeps a full-size tensor more."""

    def call(self, inputs, training=None):
        return keras.ops.tanh(super().call(inputs, training=training))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_kept_is_counted(dtype):
    bench = bench_of(dtype)
    shape = (4, 32, 32, 32)  # x is much larger than the statistics
    x, _ = bench.tensors(shape)
    contestant = contestants.BY_LABEL["GroupNorm(32)"]
    entry = bench.kept_by(contestant, bench.layer(contestant, shape), x)
    assert entry["x"] == tables.ITEMSIZE[dtype] * 4 * 32 * 32 * 32
    assert entry["full_size"] == 1
    assert entry["total"] == entry["x"] + entry["beside_x"]
    assert targets.kept_is_met(entry)

    greedy = KeepsMore(**contestant.arguments, dtype=measure.policy(dtype))
    greedy.build(shape)
    entry = bench.kept_by(contestant, greedy, x)
    assert entry["full_size"] >= 2
    assert entry["beside_x"] > entry["x"]
    assert not targets.kept_is_met(entry)


def test_equal_contents_count_once():
    x = np.arange(12, dtype="float32")
    arrays = [x, x.reshape(3, 4), np.ones(5, "float32"), np.ones(5, "float32"), np.float32(2)]
    kept = kept_by_content(arrays, x)
    assert (kept.total, kept.beside_x, kept.full_size, kept.largest) == (72, 24, 1, 20)


@pytest.mark.skipif(BACKEND != "torch", reason="torch's own way of hiding tensors")
def test_tensors_hidden_from_saved_tensors_hooks_are_counted(bench):
    import torch

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.hidden = x * 1
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return dy * 2

    class Hides(keras.layers.Layer):
        def call(self, inputs):
            return Double.apply(inputs)

    x, _ = bench.tensors(SHAPE)
    assert bench.engine.kept(Hides(), x).beside_x == measure.bytes_of(x)


def test_interleaved_rounds():
    calls = {"a": 0, "b": 0, "slow": 0}

    def step(name):
        def run():
            calls[name] += 1

        return run

    messages = []
    timings = interleave(
        {name: step(name) for name in calls},
        Stopwatch(lambda result: None, every_step=True),
        rounds=6,
        sample_seconds=1e-5,
        seldom={"slow"},
        progress=messages.append,
    )
    assert [len(timings[name].samples) for name in calls] == [6, 6, 2]
    assert len(messages) == 6
    assert calls["a"] >= 6 * timings["a"].repeats
    summary = timings["a"].summary()
    assert summary["min"] <= summary["quartiles"][0] <= summary["ms"] <= summary["quartiles"][1]


def test_load_of_other_processes():
    load = machine.OtherLoad()
    time.sleep(0.05)
    part = load.part()
    assert part is None or 0 <= part <= 1


def cell(name, ms, role="layer", mode="jit", phase="train", shape=targets.SHAPES[0]):
    return {
        "name": name,
        "role": role,
        "shape": list(shape),
        "mode": mode,
        "phase": phase,
        "dtype": "float32",
        "ms": ms,
        "min": ms,
        "quartiles": [ms, ms],
        "rounds": 9,
        "repeats": 1,
        "other_load": 0.25,
        "faults": 500.0 if name == "ModeNorm(2)" else 0.0,
    }


def jax_run(cells, device_kind="cpu"):
    return {
        "command": "layers",
        "backend": "jax",
        "device_kind": device_kind,
        "dtype": "float32",
        "cells": cells,
        "kept": [],
    }


def test_targets_and_tables():
    run = jax_run(
        [
            cell("plain train jit", 2.0, role="plain"),
            cell("plain train eager", 2.5, role="plain"),
            cell("keras BatchNormalization", 10.0, role="keras"),
            cell("ModeNorm(2)", 8.0),
            cell("literal ModeNorm(2)", 80.0, role="literal"),
            cell("ModeNorm(16)", 11.0),
            cell("ConvNorm", 12.5),
        ]
    )
    cells = {c["name"]: c for c in run["cells"]}
    assert targets.of_layer(run, cells, "ModeNorm(2)").met
    missed = targets.of_layer(run, cells, "ModeNorm(16)")
    assert str(missed) == "<= 1.00 MISSED by 0.10"
    assert targets.of_layer(run, cells, "ConvNorm").limit == 1.3
    assert targets.of_modes(run, cells).ratio == 11 / 8
    assert targets.of_layer(run, cells, "keras BatchNormalization") is None
    (table,) = tables.of_run(run)
    text = table.text()
    assert "limit (train): plain passes take 2.00 ms, 67 GB/s" in text
    assert "2 of 4 targets met" in text
    assert "page faults per step: ModeNorm(2) 500" in text
    assert "other processes took 25% of the CPUs" in text
    row = next(line for line in text.splitlines() if line.startswith("ModeNorm(2)")).split()
    assert row[1:9] == ["8.00", "8.00", "0%", "0.80", "-", "80.0", "0.100", "25%"]
    assert "**<= 1.00 MISSED by 0.10**" in table.markdown()
    assert "**1.10**" in tables.ratio_summary([run]).markdown()


def test_targets_elsewhere():
    eager = [cell("keras GroupNormalization(32)", 10.0, role="keras", mode="eager")]
    eager.append(cell("GroupNorm(32)", 11.0, mode="eager"))
    cells = {c["name"]: c for c in eager}
    target = targets.of_layer(jax_run(eager), cells, "GroupNorm(32)")
    assert (target.baseline, target.limit, target.met) == (contestants.GROUP_BASELINE, 1.0, False)
    large = [cell("keras BatchNormalization", 10.0, role="keras", shape=(256, 112, 112, 64))]
    large.append(cell("GroupNorm(32)", 9.0, shape=(256, 112, 112, 64)))
    cells = {c["name"]: c for c in large}
    assert targets.of_layer(jax_run(large), cells, "GroupNorm(32)") is None
    assert targets.of_layer(jax_run(large, "gpu"), cells, "GroupNorm(32)").met


def test_every_public_layer_is_timed():
    public = {
        name
        for name in kerasnorm.__all__
        if isinstance(getattr(kerasnorm, name), type)
        and issubclass(getattr(kerasnorm, name), kerasnorm.core.layer.Normalization)
    }
    timed = {contestant.layer for contestant in contestants.LAYERS}
    assert {getattr(kerasnorm, name).__name__ for name in public} == timed
    assert timed == set(literal.FORMULAS)


def test_inference_takes_no_more_than_it_needs(bench):
    """Moving statistics are used as they are: what the input's moments are does not matter."""
    x, _ = bench.tensors(SHAPE)
    for contestant in contestants.LAYERS:
        if contestant.inference_reads != contestants.MOVING:
            continue
        layer = bench.layer(contestant, SHAPE)
        first = keras.ops.convert_to_numpy(layer(x, training=False))
        other = keras.ops.concatenate([x[:1], 100 + 3 * x[1:]], axis=0)
        second = keras.ops.convert_to_numpy(layer(other, training=False))
        np.testing.assert_array_equal(first[:1], second[:1])


@on_torch_daily
def test_branches_are_timed(capsys):
    options = "--branches 2 --batch-size 2 --side 8 --rounds 1"
    assert cli.main(["branches", *options.split()]) == 0
    assert re.search(
        rf"^{BACKEND}, 2 branches, batch 2, 8x8: one pass [\d.]+ ms, a pass each [\d.]+ ms, "
        r"a plain step each [\d.]+ ms; one pass is [\d.]+ of a pass each, [\d.]+ of a plain",
        capsys.readouterr().out,
    )


def test_a_shape_that_a_contestant_cannot_take_is_named(capsys):
    assert cli.main(["layers", "--quick", "--no-literal", "--shapes", "2x4x4x16"]) == 2
    assert "GroupNormalization(32) cannot be built for (2, 4, 4, 16)" in capsys.readouterr().err
