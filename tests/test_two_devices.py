"""Synchronized statistics: two devices that each hold a part of the batch, against one with all."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

import branches_on_two_devices
import kerasnorm
import two_devices
import xla_flags
from backend_tools import BACKEND, data, make_layer, value_and_gradients
from small_models import assert_same, numpy

CASES = {
    case: (name, arguments, masked)
    for case, name, arguments, masked, _ in two_devices.cases(BACKEND)
}


# What C++ says where one of torch's threads is left when the interpreter goes; rare, and harmless.
LEFT_THREAD = "terminate called without an active exception"


def run_on_two_devices(*command, timeout=300, attempts=3, **environment):
    """Run a script where its backend sees two devices: two processes on torch."""
    own = environment
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        **environment,
    }
    environments = [environment]
    if BACKEND == "jax":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=2 {xla_flags.QUICK}"
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if BACKEND == "torch":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        environments = [{**environment, **address, "RANK": str(rank)} for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=one,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for one in environments
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    if BACKEND == "torch" and attempts > 1 and any(LEFT_THREAD in output for output in outputs):
        return run_on_two_devices(*command, timeout=timeout, attempts=attempts - 1, **own)
    assert codes == [0] * len(processes), outputs
    return outputs


ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the devices found, one dictionary for each that has results of its own."""
    path = tmp_path_factory.mktemp("two_devices") / "found"
    run_on_two_devices(two_devices.__file__, path if BACKEND == "torch" else f"{path}0.npz")
    return [dict(np.load(file)) for file in sorted(path.parent.iterdir())]


@pytest.mark.parametrize("case", CASES)
def test_two_devices_give_what_one_gives(case, found):
    name, arguments, masked = CASES[case]
    inputs, output_weights, mask = two_devices.batch(masked)
    layer = make_layer(name, arguments, two_devices.SHAPE)
    one = value_and_gradients(layer, inputs, output_weights, training=True, mask=mask)

    def both(quantity):
        """The examples of both devices."""
        return np.concatenate([device[f"{case}/{quantity}"] for device in found])

    there = 1 if mask is None else mask[..., None]
    assert_same(both("outputs") * there, one.outputs * there)
    scale = max(1, np.abs(one.input_gradient).max())
    assert_same(both("inputs") * there / scale, one.input_gradient * there / scale)
    for device in found:
        for weight, gradient in one.weight_gradients.items():
            scale = max(1, np.abs(gradient).max())
            # Sums over all positions that nearly cancel, each added in an order of its own.
            assert_same(device[f"{case}/gradient {weight}"] / scale, gradient / scale, 1e-4)
        for weight, value in one.statistics.items():
            assert_same(device[f"{case}/statistic {weight}"], value)


@pytest.mark.parametrize("case", CASES)
def test_only_statistics_cross_devices(case, found):
    name, arguments, _ = CASES[case]
    channels = two_devices.SHAPE[-1]
    rows = arguments.get("modes", 1)
    if BACKEND == "jax" and name == "ConvNorm":
        rows = np.prod(two_devices.SHAPE[1:3])  # The moments of each position of the image.
    for device in found:
        moved = device[f"{case}/moved"]
        assert len(moved) > 0
        assert max(moved) <= rows * channels
        assert max(moved) < np.prod(two_devices.SHAPE) / 2


@pytest.mark.parametrize("name", ["BatchNorm", "ModeNorm", "ConvNorm"])
def test_without_an_engine_it_is_one_device(name):
    shape = (6, 4, 4, 8)
    plain, synchronized = (
        make_layer(name, {"synchronized": value}, shape) for value in (False, True)
    )
    for training in (True, False):
        outputs = [numpy(layer(data(shape), training=training)) for layer in (plain, synchronized)]
        assert_same(outputs[1], outputs[0])
    assert_same(
        [numpy(w.value) for w in synchronized.weights], [numpy(w.value) for w in plain.weights]
    )
    assert kerasnorm.get({"name": name, "synchronized": True}).synchronized


@pytest.mark.skipif(BACKEND != "tensorflow", reason="models have replicas there alone")
def test_reestimate_with_replicas_measures_as_without(found):
    (device,) = found
    for key, value in two_devices.measured_again().items():
        assert_same(device[key], value)


@pytest.fixture(scope="module")
def branches(found):
    """What Consistent Normalization gave on two devices."""
    if BACKEND == "torch":
        pytest.skip("Keras trains on one device there")
    (device,) = found
    prefix = "branches/"
    return {key.removeprefix(prefix): v for key, v in device.items() if key.startswith(prefix)}


@pytest.mark.parametrize("passes", ["one pass", "passes"])
def test_consistent_models_train_as_on_one_device(branches, passes):
    options = {} if passes == "one pass" else {"concatenate": False}
    _, expected = branches_on_two_devices.trained(options)
    for key, value in expected.items():
        assert_same(branches[f"{passes}/{key}"], value, 2e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="replicas are threads there alone")
@pytest.mark.parametrize("index", range(3))
def test_threads_of_replicas_see_the_branch(branches, index):
    found = {key: v for key, v in branches.items() if key.startswith(f"branch {index}/")}
    expected = found.pop(f"branch {index}/expected")
    assert len(found) == 5 + (index == 0)
    for value in found.values():
        assert_same(value, expected)
