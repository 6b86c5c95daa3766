"""Compiling the new model as the old one is, its optimizer with the state that can go on."""

import keras

from kerasnorm.core.keras_internals import (
    OPTIMIZER_LISTS,
    compile_arguments_of,
    optimizer_lists,
)
from kerasnorm.core.standardization import assign


def compile_like(old, new, pairs):
    """Compile the new model as the old one is; sentences on what became of it."""
    if not old.compiled:
        return []
    config = compile_arguments_of(old)
    if not config or type(new).compile is not keras.Model.compile:
        return ["Not compiled: the model's `compile` is its own. Compile it again."]
    config["optimizer"] = _copied_optimizer(old.optimizer)
    for key in ("metrics", "weighted_metrics"):
        config[key] = _copied_metrics(config.get(key))
    # The optimizer is wrapped for float16 already where that was wanted.
    new.compile(**config, auto_scale_loss=False)
    if old.optimizer is None:
        return ["Compiled without an optimizer, as before."]
    name = type(old.optimizer).__name__
    if not old.optimizer.built:
        return [f"Compiled with {name}, which has no state yet."]
    new.optimizer.build(new.trainable_variables)
    kept = _copy_optimizer_state(old.optimizer, new.optimizer, pairs)
    total = len(new.trainable_variables)
    if kept is None:
        return [
            f"Compiled with {name}; its state starts anew, since it is not known which part of it "
            "belongs to which weight."
        ]
    return [
        f"Compiled with {name}; its state is kept for {kept} of {total} weights and starts anew "
        f"for {total - kept}."
    ]


def _copied_optimizer(optimizer):
    """An optimizer of the same configuration."""
    if optimizer is None:
        return None
    parts = {type(optimizer).__name__: type(optimizer)}
    with keras.saving.custom_object_scope(parts):
        return type(optimizer).from_config(optimizer.get_config())


def _copied_metrics(metrics):
    """Metrics without their counts; names and functions as they are."""
    if isinstance(metrics, dict):
        return {key: _copied_metrics(value) for key, value in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_copied_metrics(value) for value in metrics]
    if isinstance(metrics, keras.metrics.Metric):
        return type(metrics).from_config(metrics.get_config())
    return metrics


def _copy_optimizer_state(old, new, pairs):
    """Copy an optimizer's state for weights that were kept.

    Args:
        old, new: optimizers of a class, built.
        pairs: `(old, new)` variables with the same values.

    Returns:
        How many weights that was, or None where the optimizer keeps its state in another way than
        in lists with an entry per weight.
    """
    kept = None
    if hasattr(old, "inner_optimizer"):
        kept = _copy_optimizer_state(old.inner_optimizer, new.inner_optimizer, pairs)
        if kept is None:
            return None
    sources = {id(b): id(a) for a, b in pairs}
    own, trained = optimizer_lists(old)
    places = {id(variable): index for index, variable in enumerate(trained)}
    matches = [
        (places[sources[id(variable)]], index)
        for index, variable in enumerate(optimizer_lists(new)[1])
        if sources.get(id(variable)) in places
    ]
    copies, known = [], set()
    for name, value in vars(old).items():
        if hasattr(value, "assign") and hasattr(value, "shape"):
            # The count of steps, the learning rate; not all of them are in `variables`.
            copies.append((value, getattr(new, name)))
            known.add(id(value))
        elif name not in OPTIMIZER_LISTS and _state(value):
            if len(value) != len(trained):
                return None
            known.update(id(variable) for variable in value)
            others = getattr(new, name)
            copies.extend((value[one], others[other]) for one, other in matches)
    if any(id(variable) not in known for variable in own):
        return None
    for source, target in copies:
        if source is not None and target is not None:
            assign(target, source)
    return len(matches) if kept is None else kept


def _state(values):
    """Whether an attribute is a list of variables (with None where a weight needs none)."""
    return (
        isinstance(values, list)
        and any(v is not None for v in values)
        and all(v is None or hasattr(v, "assign") for v in values)
    )
