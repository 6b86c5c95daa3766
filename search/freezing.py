"""The first epochs of a trained model: its norms train alone, and all other weights are frozen."""

import keras

import kerasnorm
from kerasnorm.core.keras_internals import (
    layers_in,
    narrow_optimizer,
    set_own_trainable,
    train_by,
)
from kerasnorm.surgery.find import find
from search.errors import BadInput

EMA = (
    "frozen epochs and an optimizer with use_ema=True, whose averages are of all weights. Needed: "
    "use_ema=False, or frozen_epochs=0."
)
# In the dictionary of a model: its train functions, for the norms alone and for all.
FUNCTIONS = "_kerasnorm_train_functions"


def fit(model, frozen, args, kwargs):
    """`model.fit`, in whose first epochs the norms train alone.

    Args:
        model: a compiled functional or `Sequential` model, or a `ConsistentModel` of one.
        frozen: how many; counted from the first of the whole training, as `initial_epoch` is.
        args, kwargs: of `model.fit`.
    """
    first = NormsFirst(model, frozen)
    # It comes before what sets a learning rate at the beginning of an epoch.
    callbacks = [first, *keras.tree.flatten(kwargs.get("callbacks") or [])]
    try:
        first.freeze()
        return model.fit(*args, **{**kwargs, "callbacks": callbacks})
    finally:
        # A training may end before: what is saved then can be trained on as a whole.
        first.unfreeze()


class NormsFirst(keras.callbacks.Callback):
    """Lets a model train its norms alone, until some epoch.

    Frozen are all weights but those of the norms that `replace_norms` would replace, and the layers
    that have these weights. A norm that was frozen before stays so. Where the norms have nothing to
    train, nothing is frozen.

    Args:
        model: compiled, with all that it will train in its `trainable_variables`.
        epochs: how many of the first epochs.
    """

    def __init__(self, model, epochs):
        super().__init__()
        # `model` of a callback is set by `fit`.
        self.trained = model
        self.epochs = epochs
        self._undo = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= self.epochs:
            self.unfreeze()

    def freeze(self):
        """Let the norms alone train."""
        model = self.trained
        check(model)
        norms = _norms_of(model)
        kept = {id(layer) for norm in norms for layer in layers_in(norm)}
        weights = {id(variable) for norm in norms for variable in norm.variables}
        others = [v for v in model.trainable_variables if id(v) not in weights]
        if len(others) in (0, len(model.trainable_variables)):
            return
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        for layer in layers_in(model):
            # A layer around a norm is trained in part.
            if layer.trainable and not any(id(one) in kept for one in layers_in(layer)):
                set_own_trainable(layer, False)
                self._undo.append(lambda layer=layer: set_own_trainable(layer, True))
        for variable in others:
            variable.trainable = False
            self._undo.append(lambda variable=variable: setattr(variable, "trainable", True))
        if optimizer is not None:
            self._undo.append(narrow_optimizer(optimizer, model.trainable_variables))
        _train(model, "norms")

    def unfreeze(self):
        """Let all train that did before."""
        undo, self._undo = self._undo, []
        for one in undo:
            one()
        if undo:
            _train(self.trained, "all")


def check(model):
    """Refuse a compiled model that cannot train its norms first."""
    optimizer = getattr(model, "optimizer", None)
    if getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
        raise BadInput(f"model {model.name!r}: {EMA}")


def _norms_of(model):
    """The norms of a model, of a `ConsistentModel` those of the model in it."""
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    sites, _ = find(model)
    return [site.old for site in sites]


def _train(model, what):
    """Train by a function for this; a model that is trained again has it already."""
    # Past `__setattr__`, which would track it.
    known = vars(model).setdefault(FUNCTIONS, {})
    if model.train_function is None:
        # Of a model that was compiled anew they are out of date.
        known.clear()
    known[what] = train_by(model, known.get(what))
