"""What two devices make of one batch, each of a part of it; run as a process of its own.

`python two_devices.py FILE` writes the outputs, gradients and moving statistics of each case, and
how many numbers every collective operation moved, to FILE. On torch there are two such processes,
and FILE gets the rank's number; elsewhere FILE has what Consistent Normalization gives, too.
"""

import math
import os
import re
import sys

import numpy as np

SHAPE = (8, 4, 6, 8)
# Layer and arguments. Where there is a mask, examples weigh differently.
LAYERS = {
    "BatchNorm": ("BatchNorm", {}),
    "ModeNorm": ("ModeNorm", {"modes": 3}),
    "ConvNorm": ("ConvNorm", {}),
    "ConvNorm, weighted": ("ConvNorm", {"weighted_variance": True}),
    "SwitchableNorm": ("SwitchableNorm", {}),
    "BatchRenorm": ("BatchRenorm", {"r_max": 1.5, "d_max": 0.5}),
}
# The examples of the first device. JAX takes equal parts only.
SPLITS = {"even": 4, "uneven": 5, "all and none": 8}
EQUAL = (("even", False), ("even", True))
# Splits, and whether they are masked. What they can do wrong is wrong for all layers: two meet all
# of them, the others the last.
ANY = (("even", False), ("uneven", False), ("all and none", True), ("uneven", True))
EVERY_SPLIT = ("BatchNorm", "ConvNorm, weighted")


def cases(backend):
    """Name, layer, arguments, whether masked, and the examples of the first device."""

    def of(name):
        if backend == "jax":
            return EQUAL
        return ANY if name in EVERY_SPLIT else ANY[-1:]

    return [
        (f"{name}, {split}{', masked' * masked}", *LAYERS[name], masked, SPLITS[split])
        for name in LAYERS
        for split, masked in of(name)
    ]


def batch(masked):
    """Inputs far from zero, output weights and a mask."""
    from backend_tools import data, output_weights_for, random_mask

    mask = random_mask(SHAPE, fully_masked=[1]) if masked else None
    return data(SHAPE, mean=3.0), output_weights_for(SHAPE, mask=mask), mask


def measured_again():
    """The moving statistics that `reestimate` gives a network with norms of all kinds."""
    import keras

    import kerasnorm

    norms = [
        kerasnorm.BatchNorm(synchronized=True),
        keras.layers.BatchNormalization(),
        kerasnorm.ModeNorm(gate_initializer="ones"),
        kerasnorm.BatchRenorm(),
    ]
    model = keras.Sequential([keras.Input(SHAPE[1:]), *norms])
    kerasnorm.reestimate(model, batch(False)[0], batch_size=4)
    return {
        f"reestimated/{number} {weight.name}": np.array(weight.numpy())
        for number, norm in enumerate(norms)
        for weight in norm.non_trainable_variables
    }


def of_branches(found):
    """What Consistent Normalization gave, by names of its own."""
    return {f"branches/{key}": value for key, value in found.items()}


def parts_of(array, first):
    """The parts of the two devices."""
    return [None, None] if array is None else [array[:first], array[first:]]


def layer_of(name, arguments):
    from backend_tools import make_layer

    return make_layer(name, {**arguments, "synchronized": True}, SHAPE)


def objective(layer, x, output_weights, mask):
    """The outputs, and the sum that is differentiated."""
    from backend_tools import call_arguments, objective_of

    outputs = layer(x, **call_arguments(layer, True, mask))
    return outputs, objective_of(outputs, output_weights)


def save(results, case, moved, outputs, gradients, layer):
    """Keep what one device, or all, found: gradients for the input first."""
    import keras

    def numpy(value):
        return np.array(keras.ops.convert_to_numpy(value))

    results[f"{case}/moved"] = np.array(moved)
    results[f"{case}/outputs"] = numpy(outputs)
    results[f"{case}/inputs"] = numpy(gradients[0])
    for variable, gradient in zip(layer.trainable_variables, gradients[1:], strict=True):
        results[f"{case}/gradient {variable.name}"] = numpy(gradient)
    for variable in layer.non_trainable_variables:
        results[f"{case}/statistic {variable.name}"] = numpy(variable.value)


def tensorflow(path):
    import tensorflow as tf

    import branches_on_two_devices

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = of_branches(branches_on_two_devices.tensorflow(strategy))
    moved = []

    def count(args):
        """At run time: the graph does not know every shape."""
        value = tf.convert_to_tensor(args[1] if len(args) == 2 else args[2])
        tf.numpy_function(lambda size: moved.append(int(size)), [tf.size(value)], [])

    watch(tf.distribute.ReplicaContext, "all_reduce", count)
    watch(tf.distribute.ReplicaContext, "all_gather", count)
    for case, name, arguments, masked, first in cases("tensorflow"):
        with strategy.scope():
            layer = layer_of(name, arguments)

        def spread(array, first=first):
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(
                    parts_of(array, first)[context.replica_id_in_sync_group]
                )
            )

        given = [spread(array) for array in batch(masked) if array is not None]

        def step(x, output_weights, mask=None, layer=layer):
            weights = [variable.value for variable in layer.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs, total = objective(layer, x, output_weights, mask)
            gradients = tape.gradient(total, [x, *weights])
            return outputs, gradients

        moved.clear()
        run = tf.function(lambda *given, step=step: strategy.run(step, args=given))
        outputs, gradients = run(*given)
        local = strategy.experimental_local_results
        save(
            results,
            case,
            moved,
            tf.concat(local(outputs), 0),
            [tf.concat(local(gradients[0]), 0), *(sum(local(g)) for g in gradients[1:])],
            layer,
        )
    with strategy.scope():
        results |= measured_again()
    np.savez(path, **results)


def jax(path):
    import jax
    import keras
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    import branches_on_two_devices

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    assert len(jax.devices()) == 2
    results = of_branches(branches_on_two_devices.jax())
    for case, name, arguments, masked, _ in cases("jax"):
        layer = layer_of(name, arguments)
        given = [
            None if array is None else jax.device_put(array, NamedSharding(mesh, P("batch")))
            for array in batch(masked)
        ]
        state = [[v.value for v in layer.trainable_variables]]
        state += [[v.value for v in layer.non_trainable_variables]]

        def loss(x, trainable, other, output_weights, mask, layer=layer):
            from backend_tools import call_arguments, objective_of

            outputs, other = layer.stateless_call(
                trainable, other, x, **call_arguments(layer, True, mask)
            )
            return objective_of(outputs, output_weights), (outputs, other)

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        step = step.lower(given[0], *state, *given[1:]).compile()
        (_, (outputs, statistics)), (dx, gradients) = step(given[0], *state, *given[1:])
        assert len(outputs.sharding.device_set) == 2
        for variable, value in zip(layer.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        save(results, case, moved_in(step.as_text()), outputs, [dx, *gradients], layer)
    np.savez(path, **results)


def moved_in(program):
    """The sizes of what the collective operations of a compiled JAX program give."""
    kinds = (
        "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    )
    sizes = []
    for line in re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\(", program):
        shapes = re.findall(r"\w+\[([\d,]*)\]", line)
        sizes += [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes]
    return sizes


def torch(path):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    moved = []
    for name in ("all_reduce", "all_gather", "broadcast", "all_gather_into_tensor"):
        watch(torch.distributed, name, lambda args: moved.append(args[0].numel()))
    results = {}
    for case, name, arguments, masked, first in cases("torch"):
        layer = layer_of(name, arguments)
        replica = DistributedDataParallel(layer)
        x, output_weights, mask = (
            None if array is None else torch.tensor(array)
            for array in (parts_of(array, first)[rank] for array in batch(masked))
        )
        x.requires_grad_(True)
        moved.clear()
        outputs, total = objective(replica_of(replica, layer), x, output_weights, mask)
        total.backward()
        # DistributedDataParallel averages over the processes; the objective is a sum.
        gradients = [2 * variable.value.grad for variable in layer.trainable_variables]
        save(results, case, moved, outputs.detach(), [x.grad, *gradients], layer)
    np.savez(f"{path}{rank}.npz", **results)
    torch.distributed.destroy_process_group()


class replica_of:
    """The layer of torch's wrapper, called through the wrapper."""

    def __init__(self, replica, layer):
        self.call = layer.call
        self.replica = replica

    def __call__(self, *args, **kwargs):
        return self.replica(*args, **kwargs)


def watch(holder, name, see):
    """Let `see` know the arguments of every call of a function."""
    function = getattr(holder, name)

    def watched(*args, **kwargs):
        see(args)
        return function(*args, **kwargs)

    setattr(holder, name, watched)


if __name__ == "__main__":
    {"tensorflow": tensorflow, "jax": jax, "torch": torch}[os.environ["KERAS_BACKEND"]](sys.argv[1])
