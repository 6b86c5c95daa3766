"""A copy of a model in which some layers are others."""

import copy
import dataclasses
import inspect
import itertools
import tempfile
import warnings

import keras

from kerasnorm.core.keras_internals import (
    first_layer_of,
    forget_calls,
    layers_in,
    operation_of,
    output_shape_of,
)
from kerasnorm.core.standardization import assign
from kerasnorm.surgery.composite import copy_with, needs_copy, norms_in, replaced_in
from kerasnorm.surgery.find import is_distributed, is_graph


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A model that was put together again.

    Attributes:
        model: the new model, not compiled.
        pairs: `(old, new)` variables with the same values; none of the layers that were given.
        notes: what the report says of models whose class is another one now.
    """

    model: keras.Model
    pairs: tuple
    notes: tuple


def rebuild(model, layers):
    """A copy of a functional or Sequential model in which given layers stand in for others.

    Args:
        model: a built model; it is not changed.
        layers: pairs of a layer of the model, or of a model inside of it, and a built layer.

    Returns:
        A `Rebuilt`, with copies of all other weights.
    """
    if not (is_graph(model) and model.built):
        raise ValueError(
            f"model '{model.name}' ({type(model).__name__}) cannot be copied with other layers. "
            "Needed: a functional or Sequential model that is built."
        )
    copier = _Copier(layers)
    new_model = copier.model(model)
    missing = [old.name for old, _ in layers if id(old) not in copier.copies]
    if missing:
        raise ValueError(
            f"model '{model.name}': the layers {', '.join(missing)} are inside layers with their "
            "own code, where no layer can be replaced. Needed: layers of the model itself, or of "
            "functional or Sequential models inside it."
        )
    copier.set_trainable(model, new_model)
    return Rebuilt(new_model, tuple(copier.pairs), tuple(copier.notes))


class _Copier:
    """What becomes of each part of a model while it is copied.

    Args:
        layers: pairs of a layer and of the one that takes its place.

    Attributes:
        given: new layers, by the id of the one whose place they take.
        copies: all that was copied, by the id of the original.
        origins: the originals of layers whose state is still to be copied, by the copy's id.
        pairs, notes: as in `Rebuilt`.
    """

    def __init__(self, layers):
        self.given = {id(old): new for old, new in layers}
        self.copies = {}
        self.origins = {}
        self.pairs = []
        self.notes = []

    def model(self, model):
        """A copy of a functional or Sequential model."""
        new = self._sequential(model) if isinstance(model, keras.Sequential) else self._graph(model)
        self.copies[id(model)] = new
        return new

    def copy(self, operation):
        """What takes the place of a layer, or of another operation, of the old model."""
        key = id(operation)
        if key not in self.copies:
            if key in self.given:
                new = self.given[key]
            elif is_graph(operation):
                new = self.model(operation)
            elif is_distributed(operation):
                new = keras.layers.TimeDistributed(
                    self.copy(operation.layer), name=operation.name, dtype=operation.dtype_policy
                )
            elif isinstance(operation, keras.layers.Layer):
                new = self._composite(operation) or _copied_layer(operation)
                self.origins[id(new)] = operation
            else:
                # An operation has no state; only where it is called must not be shared.
                new = copy.copy(operation)
                forget_calls(new)
            self.copies[key] = new
        return self.copies[key]

    def _composite(self, layer):
        """A copy of a layer that keeps norms in attributes; None where these are its own."""
        norms, replaced = {}, replaced_in(layer)
        for inner in norms_in(layer):
            if id(inner.norm) in self.given:
                norms[inner.path] = self.copies[id(inner.norm)] = self.given[id(inner.norm)]
            elif inner.path in replaced:
                norms[inner.path] = _copied_layer(inner.norm)
        if not norms and not needs_copy(layer):
            return None
        return _recreated(layer, lambda: copy_with(layer, norms))

    def _given_in(self, layer):
        """The norms in a layer that others take the place of."""
        return [inner.norm for inner in norms_in(layer) if id(inner.norm) in self.given]

    def call(self, operation, *args, **kwargs):
        """Call a copy as the original was called; its weights are there then."""
        if isinstance(operation, keras.layers.Layer):
            kwargs = {
                key: value
                for key, value in kwargs.items()
                if key != "mask" or takes_argument(operation, "mask")
            }
        outputs = operation(*args, **kwargs)
        self._fill(operation)
        return outputs

    def _fill(self, new):
        """Copy a layer's state, once."""
        old = self.origins.pop(id(new), None)
        if old is not None:
            given = self._given_in(old)
            others = [self.given[id(norm)] for norm in given]
            self.pairs.extend(_copy_state(old, new, given, others))

    def _graph(self, model):
        """A copy of a functional model."""
        with warnings.catch_warnings():
            # The original was warned of already, and once is enough.
            warnings.filterwarnings("ignore", message="When providing `inputs` as a dict")
            # The same graph, uncompiled: `clone_model` would try to compile its copy.
            graph = keras.Model(model.input, model.output, name=model.name)
            inputs = keras.tree.map_structure(_copied_input, model.input)
            new = keras.models.clone_model(
                graph, input_tensors=inputs, clone_function=self.copy, call_function=self.call
            )
            if type(model) is type(new):
                return new
            if _made_from_graph(type(model)):
                return type(model)(new.input, new.output, name=model.name)
        self.notes.append(
            f"Model '{model.name}' was a {type(model).__name__} and is a functional model now: its "
            "own configuration could not describe these norms. Further attributes and methods are "
            "gone."
        )
        return new

    def _sequential(self, model):
        """A copy of a Sequential model."""
        layers = [self.copy(layer) for layer in model.layers]
        if model.inputs and isinstance(first_layer_of(model), keras.layers.InputLayer):
            layers = [_copied_input(model.inputs[0]), *layers]
        if type(model) is keras.Sequential or _made_from_layers(type(model)):
            new = type(model)(layers, name=model.name)
        else:
            new = keras.Sequential(layers, name=model.name)
            self.notes.append(
                f"Model '{model.name}' was a {type(model).__name__} and is a Sequential model now."
            )
        if not new.built:
            new.build(model.input_shape)
        for layer in new.layers:
            self._fill(layer)
        return new

    def set_trainable(self, model, new_model):
        """Make the same layers trainable."""
        norms = {id(new): new.trainable for new in self.given.values()}

        def visit(old, new):
            new.trainable = norms.get(id(new), old.trainable)
            if id(new) in norms:
                return
            if is_graph(old):
                for layer in old.layers:
                    visit(layer, self.copies.get(id(layer), layer))
                return
            if is_distributed(old):
                visit(old.layer, new.layer)
                return
            given = self._given_in(old)
            others = [self.given[id(norm)] for norm in given]
            pairs = zip(_without(old, given)[1:], _without(new, others)[1:], strict=True)
            for inner, copied in pairs:
                copied.trainable = inner.trainable
            for norm in others:
                norm.trainable = norms[id(norm)]

        # Input layers have no copies in the table, and nothing to train.
        visit(model, new_model)


def takes_argument(layer, argument):
    """Whether a layer's call has an argument."""
    parameters = inspect.signature(layer.call).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _made_from_graph(model_class):
    """Whether a class is made from inputs and outputs, and its configuration is the graph's."""
    parameters = list(inspect.signature(model_class.__init__).parameters.values())[1:]
    names = [p.name for p in parameters]
    kinds = {p.kind for p in parameters}
    open_ended = {parameters[0].VAR_POSITIONAL, parameters[0].VAR_KEYWORD} if parameters else set()
    own_config = "get_config" in itertools.chain.from_iterable(
        vars(c) for c in model_class.__mro__ if not c.__module__.startswith("keras.")
    )
    return not own_config and (names[:2] == ["inputs", "outputs"] or kinds == open_ended)


def _made_from_layers(model_class):
    """Whether a subclass of Sequential is made as Sequential is."""
    names = list(inspect.signature(model_class.__init__).parameters)[1:]
    return names == list(inspect.signature(keras.Sequential.__init__).parameters)[1:]


def _copied_input(tensor):
    """A new input like the one of a symbolic tensor."""
    layer = operation_of(tensor)
    return type(layer).from_config(layer.get_config()).output


def _copied_layer(layer):
    """A layer of the same configuration, without weights yet."""
    if type(layer) is keras.layers.Lambda:
        # Its function as it is: written to a configuration it would lose what it refers to.
        return keras.layers.Lambda(
            layer.function,
            output_shape=output_shape_of(layer),
            mask=layer.mask,
            arguments=layer.arguments,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
    inner = {type(part).__name__: type(part) for part in layers_in(layer)}
    own = {name: c for name, c in inner.items() if not c.__module__.startswith("keras.")}

    def make():
        with keras.saving.custom_object_scope(own):
            return type(layer).from_config(layer.get_config())

    return _recreated(layer, make)


def _recreated(layer, make):
    """What `make` makes from a layer's configuration, with the layer's name."""
    try:
        new = make()
    except Exception as error:
        raise ValueError(
            f"replace_norms: layer '{layer.name}' ({type(layer).__name__}) cannot be copied: "
            f"{error}\nNeeded: `get_config` and `from_config` that recreate it, as for saving."
        ) from error
    if new.name != layer.name:
        new.name = layer.name
    return new


def _without(layer, norms):
    """A layer and the layers in it, but for some norms and what is in them."""
    left_out = {id(part) for norm in norms for part in layers_in(norm)}
    return [part for part in layers_in(layer) if id(part) not in left_out]


def _copy_state(old, new, norms=(), others=()):
    """Copy all variables and tables of a layer that is not a norm.

    Args:
        old, new: the layers.
        norms: inside the old layer, that have other norms in their place.
        others: these other norms.
    """
    variables = []
    for layer, replaced in ((old, norms), (new, others)):
        left_out = {id(variable) for norm in replaced for variable in norm.variables}
        variables.append([one for one in layer.variables if id(one) not in left_out])
    shapes = [[tuple(one.shape) for one in each] for each in variables]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"replace_norms: layer '{old.name}' ({type(old).__name__}) has variables of shapes "
            f"{shapes[0]}, but {shapes[1]} after it is recreated from its "
            "configuration. Needed: a layer whose configuration recreates the same variables."
        )
    pairs = list(zip(*variables, strict=True))
    for source, target in pairs:
        assign(target, source)
        target.trainable = source.trainable
    layers = zip(_without(old, norms), _without(new, others), strict=True)
    for source, target in layers:
        if isinstance(target, keras.layers.Normalization):
            target.finalize_state()
        if hasattr(source, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)
    return pairs
