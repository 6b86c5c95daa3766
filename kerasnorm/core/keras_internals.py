"""What Keras keeps private and this package needs, all of it here.

Each function says what it reads, and why nothing public does. All were tried with Keras 3.10 and
3.15, and `tests/test_internals.py` runs each on the installed and on the lowest supported version.
"""

import keras


def layers_in(layer, include_self=True, recursive=True):
    """A layer and the layers in it, at any depth.

    `Layer._flatten_layers`: `layers` is public for models only, and gives the outermost ones.
    """
    return list(layer._flatten_layers(include_self=include_self, recursive=recursive))


def attributes_of(layer):
    """The attributes of a layer that hold layers, or lists with layers, by their names.

    `Layer._layers`: all of them in the order in which they were made. `torch.nn.Module._modules`:
    on torch, layers are there and not in the layer's own dictionary.
    """
    order = {id(part): place for place, part in enumerate(layer._layers)}
    found = {}
    for name, value in {**vars(layer), **vars(layer).get("_modules", {})}.items():
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
        if name != "_layers" and parts and all(id(part) in order for part in parts):
            found[name] = parts if isinstance(value, (list, tuple)) else value
    place = {
        name: order[id(value[0] if isinstance(value, list) else value)]
        for name, value in found.items()
    }
    return {name: found[name] for name in sorted(found, key=place.__getitem__)}


def put_layer(owner, container, key, old, new):
    """Put a layer in the place of another one, in an attribute of a layer or in a list.

    `Layer._tracker`: a layer that is built takes no new ones, and one that is replaced would stay
    among its layers. `TorchLayer._track_variables`: the parameters that torch knows.

    Args:
        owner: the layer that tracks the old one.
        container: the same, or a list in one of its attributes.
        key: the name of the attribute, or the number in the list.
        old: the layer that is there.
        new: the layer to put there.
    """
    owner._tracker.replace_tracked_value("layers", old, new)
    if isinstance(container, list):
        container[key] = new
    else:
        setattr(container, key, new)
    if hasattr(owner, "_torch_params"):
        owner._track_variables()


def has_mask(tensor):
    """Whether a mask travels with a tensor.

    `KerasTensor._keras_mask`: a layer reads it where it has no argument for it.
    """
    return getattr(tensor, "_keras_mask", None) is not None


def calls_in(model):
    """The calls that a functional or Sequential model consists of.

    `Function._nodes_by_depth` and `Sequential._functional`: a configuration names layers and
    tensors, but loses objects that cannot be serialized.

    Returns:
        Nodes with `operation`, `input_tensors`, `output_tensors` and `arguments`, each behind those
        whose outputs it takes. None for a Sequential model that is not built.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if graph is None:
        return []
    by_depth = sorted(graph._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in by_depth for node in nodes]


def filled_in(node, tensors):
    """The arguments of a call, with tensors in place of the symbolic ones.

    `SymbolicArguments.fill_in`, as `Function` uses it to run a model.

    Args:
        node: one of `calls_in`.
        tensors: by the id of the symbolic tensor.
    """
    return node.arguments.fill_in(tensors)


def forget_calls(operation):
    """Make an operation one that was never called.

    `Operation._inbound_nodes` and `_outbound_nodes`: a copy made by `copy.copy` shares them, and an
    operation that is no layer cannot be made again otherwise.
    """
    operation._inbound_nodes, operation._outbound_nodes = [], []


def operation_of(tensor):
    """What made a symbolic tensor: a layer, of a model's input its `InputLayer`, or an operation.

    `KerasTensor._keras_history`: `Sequential.layers` leaves the input layer out.
    """
    return tensor._keras_history[0]


def first_layer_of(model):
    """The first layer of a Sequential model, be it the `InputLayer`, which `layers` leaves out.

    `Sequential._layers`.
    """
    return model._layers[0]


def output_shape_of(layer):
    """The argument `output_shape` of a Lambda layer.

    `Lambda._output_shape`: its configuration turns functions into text.
    """
    return layer._output_shape


def compile_arguments_of(model):
    """The arguments of a model's `compile`, as they were given; {} where they are not known.

    `Trainer._compile_config`: `get_compile_config` turns functions into text.
    """
    config = getattr(model, "_compile_config", None)
    return dict(config.config) if config is not None and config.config else {}


def compiled_loss_of(model):
    """The loss that a model was compiled with, with what it tracks; None where there is none.

    `Trainer._compile_loss`: the public `compute_loss` adds the losses of layers each time.
    """
    return model._compile_loss


def additional_loss(model, loss):
    """A loss of a layer, as `compute_loss` adds it: each replica's share of it.

    `Trainer._aggregate_additional_loss`.
    """
    return model._aggregate_additional_loss(loss)


# Attributes of an optimizer with all of its variables and with the weights that it trains:
# `variables` of a `LossScaleOptimizer` has the inner optimizer's too, and the weights are in none.
OPTIMIZER_LISTS = ("_variables", "_trainable_variables")


def optimizer_lists(optimizer):
    """A built optimizer's own variables, and the weights that it trains in their order."""
    return tuple(getattr(optimizer, name) for name in OPTIMIZER_LISTS)


def narrow_optimizer(optimizer, variables):
    """Let a built optimizer train some of its weights only, with the state of all of them kept.

    `BaseOptimizer._trainable_variables` and `_trainable_variables_indices`: on JAX an optimizer
    takes the very weights that it was built with, and no fewer. Both are put past `__setattr__`,
    which on TensorFlow would wrap and track them.

    Args:
        optimizer: a built optimizer.
        variables: the weights to train.

    Returns:
        A function that lets it train all of them again.
    """
    wanted = {id(variable) for variable in variables}
    inner = getattr(optimizer, "inner_optimizer", None)
    undo = [] if inner is None else [narrow_optimizer(inner, variables)]
    own = vars(optimizer)
    names = ("_trainable_variables", "_trainable_variables_indices")
    before = {name: own[name] for name in names}
    trained = [one for one in before["_trainable_variables"] if id(one) in wanted]
    keys = {optimizer._var_key(one) for one in trained}
    own["_trainable_variables"] = trained
    own["_trainable_variables_indices"] = {
        # The places in the lists of its state, which stay as long as they are.
        key: place
        for key, place in before["_trainable_variables_indices"].items()
        if key in keys
    }

    def widen():
        own.update(before)
        for one in undo:
            one()

    return widen


def set_own_trainable(layer, value):
    """Set a layer's own `trainable`, and not that of its weights and of the layers in it.

    `Layer._trainable`: the public setter reaches all of them.
    """
    layer._trainable = value


def train_by(model, function):
    """Let a model train by a function that its `make_train_function` made, or by a new one.

    `JAXTrainer._record_training_state_sharding_spec`, up to Keras 3.10: `fit` notes before the
    first epoch which weights are trained.

    Returns:
        The function.
    """
    model.train_function = function
    model.make_train_function()
    if hasattr(model, "_record_training_state_sharding_spec"):
        model._record_training_state_sharding_spec()
    return model.train_function
