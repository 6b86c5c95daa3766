"""Surgery: a model with its normalization layers replaced."""

import copy
import dataclasses
import fnmatch
import inspect
import itertools
import tempfile
import warnings
from typing import Any

import keras

from kerasnorm.carrying import (
    assign,
    channel_axis_of,
    chosen,
    hand_on,
    remark,
    successor,
)
from kerasnorm.registry import is_norm
from kerasnorm.sites import at_each_site, specs_of_sites


@dataclasses.dataclass(frozen=True)
class Replacement:
    """One replaced layer.

    Attributes:
        layer: its path in the model, such as `"encoder/bn_1"`.
        stage: the number of its stage.
        old: the class that it was of.
        new: the class that it is of.
        carried: the weights and the unusual arguments that it took over.
        left_out: those of the old layer that it has no place for.
        chosen: what was left open in the spec and decided here, and other remarks.
        outputs: how its outputs relate to the old ones for the same inputs: `"same"`, `"same at
            inference"`, `"near"`, or `"other"`.
    """

    layer: str
    stage: int
    old: str
    new: str
    carried: tuple
    left_out: tuple
    chosen: str
    outputs: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What `replace_norms` did; `print` it for a table.

    Attributes:
        replacements: a `Replacement` for each replaced layer, in the order of `model.layers`.
        kept: the paths of the norms that `where` left as they were.
        notes: sentences about the model as a whole: its class, its compilation, its optimizer.
    """

    replacements: tuple
    kept: tuple
    notes: tuple

    def __str__(self):
        head = ("layer", "from", "to", "carried", "left out", "chosen", "outputs")
        rows = [
            (
                r.layer,
                r.old,
                r.new,
                ", ".join(r.carried),
                ", ".join(r.left_out),
                r.chosen,
                r.outputs,
            )
            for r in self.replacements
        ]
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        rule = tuple("-" * width for width in widths)
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, rule, *rows)
        ]
        if self.kept:
            more = ", ..." if len(self.kept) > 8 else ""
            lines.append(f"Not selected ({len(self.kept)}): {', '.join(self.kept[:8])}{more}")
        return "\n".join([*lines, *self.notes])


def report_of(model):
    """The `Report` on a model that `replace_norms` returned; the same as `model.norm_report`.

    It is not saved with the model.

    >>> import keras
    >>> import kerasnorm
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.BatchNormalization(name="bn")], name="model"
    ... )
    >>> print(kerasnorm.report_of(kerasnorm.replace_norms(model, "batch")))
    layer  from                to         carried                                    ...
    -----  ------------------  ---------  -------...
    bn     BatchNormalization  BatchNorm  gamma, beta, moving_mean, moving_variance, ...
    """
    report = getattr(model, "norm_report", None)
    if not isinstance(report, Report):
        raise ValueError(
            f"report_of: model '{getattr(model, 'name', model)}' has no report. Needed: what "
            "`kerasnorm.replace_norms` returned, before it was saved and loaded."
        )
    return report


def norm_sites(model):
    """The norms of a model that `replace_norms` would replace, in the order in which it counts.

    Args:
        model: a functional or `Sequential` model, built.

    Returns:
        A list of `(channels, spatial size, stage)`.

    >>> import keras
    >>> from kerasnorm.surgery import norm_sites
    >>> layers = [keras.Input((8, 8, 3)), keras.layers.BatchNormalization()]
    >>> norm_sites(keras.Sequential(layers))
    [(3, (8, 8), 0)]
    """
    sites, hidden = _find(model)
    _refuse_hidden(model, hidden, sites, None)
    return [
        (site.shapes[0][channel_axis_of(site.layer, len(site.shapes[0]))], site.size, site.stage)
        for site in sites
    ]


def replace_norms(model, spec, where=None, carry=True, preserve=False):
    """A new model in which normalization layers are replaced; all other weights are kept.

    Norms are Keras's BatchNormalization, GroupNormalization, LayerNormalization and
    RMSNormalization, the layers of this package, and classes given to `kerasnorm.register`; nested
    models are searched too. `keras.layers.Normalization` and `UnitNormalization` stay. The given
    model is left as it is.

    Args:
        model: a functional or `Sequential` model, built.
        spec: a norm spec for all norms; a pair `(first, rest)`; or `{"stages": [spec, ...]}`. None
            removes a norm. Norms are counted in the order of `model.layers`; a stage is a maximal
            run of them with the same spatial size. Group arguments that are not given are "auto".
        where: which norms to replace; None is all of them.
            A string is a pattern for a norm's name or path (`"conv5_*"`, `"encoder/*"`), or
            `"first"`, or `"stage:2"`. An integer is the number of a stage, from 0 (-1 is the last),
            a slice takes several. A function gets the layer and says whether.
            What several specs mean does not depend on it: norms and stages are counted in the
            whole model.
        carry: take over gamma, beta, moving statistics, epsilon, momentum, center, scale, groups,
            initializers, regularizers, constraints, `trainable` and `synchronized`, wherever both
            layers have them. Arguments in the spec count more. Without it a norm keeps its name,
            axis and dtype policy alone.
        preserve: start the new layers' own weights so that the model computes what it did before,
            as nearly as the method can.

    Returns:
        The new model: a functional one, or `Sequential`. Where the given one is of a class with a
        configuration of its own, as those of KerasHub are, it becomes a plain functional model,
        since its class could not describe its new norms. It is compiled as the given one is, with
        the optimizer's state for the weights that were kept. `report_of(new_model)` tells what was
        done.

    Example:
        >>> import keras
        >>> import kerasnorm
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(24, 3),
        ...         keras.layers.BatchNormalization(name="bn"),
        ...     ]
        ... )
        >>> new = kerasnorm.replace_norms(model, {"name": "ilm_group", "reduction": 4})
        >>> new.get_layer("bn").groups_of(24)
        24
        >>> kerasnorm.report_of(new).replacements[0].chosen
        'groups=24, one group per channel: instance norm, key_group_size=12'
    """
    if preserve and not carry:
        raise ValueError(
            "replace_norms: preserve=True with carry=False. Needed: carry=True, since without the "
            "old layers' weights their function cannot be kept."
        )
    sites, hidden = _find(model)
    specs = specs_of_sites(spec, [site.stage for site in sites], f"model '{model.name}'")
    _refuse_hidden(model, hidden, sites, where)
    selected = _select(sites, where)
    operation = _Operation(
        {
            id(site.layer): (site, one)
            for site, one, wanted in zip(sites, specs, selected, strict=True)
            if wanted
        },
        carry,
        preserve,
    )
    operation.make_norms()
    new_model = operation.model(model)
    operation.finish(model, new_model)
    notes = [*operation.notes, *_compile_like(model, new_model, operation.pairs)]
    report = Report(
        tuple(operation.replacements),
        tuple(site.path for site, wanted in zip(sites, selected, strict=True) if not wanted),
        tuple(notes),
    )
    new_model.norm_report = report
    return new_model


def with_layers(model, layers):
    """A copy of a functional or Sequential model in which given layers stand in for others.

    Args:
        model: a built model; it is left as it is.
        layers: pairs of a layer of the model, or of a model inside of it, and a built layer.

    Returns:
        The new model, with copies of all other weights. It is not compiled.
    """
    if not (_is_graph(model) and model.built):
        raise ValueError(
            f"model '{model.name}' ({type(model).__name__}) cannot be copied with other layers. "
            "Needed: a functional or Sequential model that is built."
        )
    operation = _Operation({}, carry=True, preserve=False)
    operation.norms = {id(old): new for old, new in layers}
    new_model = operation.model(model)
    missing = [old.name for old, _ in layers if id(old) not in operation.copies]
    if missing:
        raise ValueError(
            f"model '{model.name}': the layers {', '.join(missing)} lie inside of layers that are "
            "defined by their own code, where none can be replaced. Needed: layers that stand in "
            "the model itself, or in functional or Sequential models inside of it."
        )
    operation.finish(model, new_model)
    return new_model


# Finding.


@dataclasses.dataclass(eq=False)
class _Site:
    """A norm of a model.

    Attributes:
        path: names from the model's layers down.
        layer: the layer.
        shapes: of the inputs of each of its calls.
        masked: whether any of them has a mask.
        stage: the number of its stage.
    """

    path: str
    layer: Any
    shapes: list
    masked: bool
    stage: int = 0

    @property
    def size(self):
        """The spatial size: the shape without batch and channels."""
        shape = self.shapes[0]
        channels = channel_axis_of(self.layer, len(shape)) % len(shape)
        return tuple(s for axis, s in enumerate(shape) if axis not in (0, channels))


def _is_graph(layer):
    """Whether a layer is a model that is defined by its layers and not by code."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Function) and isinstance(layer, keras.Model)
    )


def _distributes(layer):
    """Whether a layer is Keras's TimeDistributed around a norm or a model."""
    return type(layer) is keras.layers.TimeDistributed and (
        is_norm(layer.layer) or _is_graph(layer.layer)
    )


def _calls(model):
    """The nodes of a model's graph."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if graph is None:
        return []
    return [node for nodes in graph._nodes_by_depth.values() for node in nodes]


def _find(model):
    """The norms of a model: those in its graph, and the paths of those inside other layers."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"replace_norms: model={model!r}. Needed: a Keras model.")
    sites: list[_Site] = []
    hidden: list[tuple] = []
    seen: set[int] = set()

    def inside(layer, path):
        hidden.extend(
            (f"{path}{inner.name}", inner, layer)
            for inner in layer._flatten_layers(include_self=False)
            if is_norm(inner)
        )

    def visit(graph, prefix):
        calls: dict[int, list] = {}
        for node in _calls(graph):
            calls.setdefault(id(node.operation), []).append(node)
        for layer in graph.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            path = f"{prefix}{layer.name}"
            if is_norm(layer):
                sites.append(_site(path, layer, calls.get(id(layer), [])))
            elif _is_graph(layer):
                visit(layer, f"{path}/")
            elif _distributes(layer) and id(layer.layer) not in seen:
                seen.add(id(layer.layer))
                path = f"{path}/{layer.layer.name}"
                if is_norm(layer.layer):
                    sites.append(_site(path, layer.layer, []))
                else:
                    visit(layer.layer, f"{path}/")
            else:
                inside(layer, f"{path}/")

    if not _is_graph(model):
        inside(model, "")
        raise ValueError(_subclassed(model, hidden))
    if not model.built:
        raise ValueError(
            f"replace_norms: model '{model.name}' is not built. Needed: an input shape, by "
            "`keras.Input` as its first layer, `model.build(shape)`, or a call."
        )
    visit(model, "")
    if not sites and not hidden:
        raise ValueError(
            f"replace_norms: model '{model.name}' has no normalization layer. Needed: at least one "
            "of Keras's Batch-, Group-, Layer- or RMSNormalization, or of this package "
            "(`kerasnorm.available()`), or of a class given to `kerasnorm.register`."
        )
    for before, site in itertools.pairwise(sites):
        site.stage = before.stage + (site.size != before.size)
    return sites, hidden


def _site(path, layer, nodes):
    """A site, with the shapes that its layer is called with."""
    inputs = [node.input_tensors[0] for node in nodes]
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if not shapes and layer.built:
        shapes = [tuple((layer.get_build_config() or {}).get("input_shape", ()))]
    if not shapes or not shapes[0]:
        raise ValueError(
            f"replace_norms: the input shape of norm '{path}' is unknown. Needed: a built model, "
            "one with an input shape or one that was called."
        )
    return _Site(path, layer, shapes, any(len(node.input_tensors) > 1 for node in nodes))


def _subclassed(model, hidden):
    """The error on a model that is code."""
    names = ", ".join(path for path, _, _ in hidden[:8]) or "none that it has built so far"
    return (
        f"replace_norms: model '{model.name}' ({type(model).__name__}) is defined by its own "
        f"`call`; which norms are called there, and on what, is not known (it holds: {names}). "
        "Needed: a functional or Sequential model, such as `keras.Model(inputs, "
        "model.call(inputs))` where `call` consists of Keras layers; or give the class an argument "
        "for its norms and pass it to `kerasnorm.get`."
    )


def _refuse_hidden(model, hidden, sites, where):
    """Refuse norms inside of layers, unless `where` has nothing to do with them."""
    if where is not None:
        pattern = isinstance(where, str) and where != "first" and _stage_number(where) is None
        hidden = [
            entry
            for entry in hidden
            if (pattern and _matches(where, entry[0], entry[1]))
            or (callable(where) and where(entry[1]))
        ]
    if not hidden:
        return
    holders: dict[str, list] = {}
    for path, _, holder in hidden:
        holders.setdefault(f"{type(holder).__name__} '{holder.name}'", []).append(path)
    listed = "\n".join(f"  {holder}: {', '.join(paths)}" for holder, paths in holders.items())
    raise ValueError(
        f"replace_norms: model '{model.name}' has norms inside of layers that are defined by their "
        f"own code:\n{listed}\nNone of them can be replaced: saved and loaded, such a layer would "
        "make its old norms again. Needed: layers that take their norms as an argument; or "
        "`where` for the norms that stand in the model itself"
        + (f", such as where={sites[0].path!r}." if sites else " (there are none).")
    )


# Selecting.


def _stage_number(where):
    """The number in "stage:2", or None for another string."""
    head, _, number = where.partition(":")
    return int(number) if head == "stage" and number.lstrip("-").isdigit() else None


def _matches(pattern, path, layer):
    """Whether a pattern fits a layer's name or path."""
    return fnmatch.fnmatchcase(layer.name, pattern) or fnmatch.fnmatchcase(path, pattern)


def _select(sites, where):
    """Whether each site is to be replaced."""
    stages = sorted({site.stage for site in sites})
    number = _stage_number(where) if isinstance(where, str) else where
    if where is None:
        selected = [True] * len(sites)
    elif where == "first":
        selected = [index == 0 for index in range(len(sites))]
    elif isinstance(number, int) and not isinstance(number, bool):
        wanted = stages[number] if -len(stages) <= number < len(stages) else None
        selected = [site.stage == wanted for site in sites]
    elif isinstance(where, slice):
        selected = [site.stage in stages[where] for site in sites]
    elif isinstance(where, str):
        selected = [_matches(where, site.path, site.layer) for site in sites]
    elif callable(where):
        selected = [bool(where(site.layer)) for site in sites]
    else:
        raise TypeError(
            f"replace_norms: where={where!r}. Needed: a pattern for names, "
            '"first", "stage:2", an integer or a slice of stages, a function of a layer, or None.'
        )
    if not any(selected):
        listed = "\n".join(
            f"  stage {stage}, spatial size {_size(members[0].size)}: "
            + ", ".join(site.path for site in members)
            for stage, group in itertools.groupby(sites, key=lambda site: site.stage)
            for members in [list(group)]
        )
        raise ValueError(
            f"replace_norms: where={where!r} selects none of the norms. Needed: some of\n"
            + (listed or "  (no norm stands in the model itself)")
        )
    return selected


def _size(size):
    """A spatial size as a reader sees it."""
    return "x".join("?" if s is None else str(s) for s in size) or "none"


# Replacing.


class _Operation:
    """A model taken apart and put together again.

    Args:
        chosen: from the id of a layer to its site and spec.
        carry, preserve: as in `replace_norms`.

    Attributes:
        pairs: `(old, new)` variables with the same values.
        replacements: what the report lists.
        notes: what else it says.
    """

    def __init__(self, chosen, carry, preserve):
        self.chosen = chosen
        self.carry = carry
        self.preserve = preserve
        self.norms = {}
        self.copies = {}
        self.origins = {}
        self.pairs = []
        self.replacements = []
        self.notes = []

    # The new norms come first, so that all that is illegal is found before anything else is made.

    def make_norms(self):
        """Make and build every new norm; one error names all that cannot be."""
        specs = {id(site): spec for site, spec in self.chosen.values()}
        sites = [site for site, _ in self.chosen.values()]
        norms = at_each_site(
            lambda site: self._norm(site, specs[id(site)]),
            sites,
            "replace_norms",
            "replaced",
            "`where` for the others",
        )
        self.norms = {id(site.layer): norm for site, norm in zip(sites, norms, strict=True)}
        for site, spec in self.chosen.values():
            self._transfer(site, spec)

    def _norm(self, site, spec):
        """The new layer of a site, built, checked against each of its calls."""
        new = successor(site.layer, spec, site.shapes[0], self.carry, self.preserve)
        new.build(site.shapes[0])
        for shape in site.shapes:
            new.compute_output_spec(keras.KerasTensor(shape, dtype=new.compute_dtype))
        return new

    def _transfer(self, site, spec):
        """Hand weights on, and write the line of the report."""
        old, new = site.layer, self.norms[id(site.layer)]
        shape = site.shapes[0]
        handed = hand_on(old, new, shape, self.carry, self.preserve)
        self.pairs.extend(handed.pairs)
        outputs = handed.outputs
        remarks = [chosen(new, spec, shape), remark(old, new, shape, outputs, self.preserve)]
        if site.masked and _takes(new, "mask") != _takes(old, "mask"):
            outputs = "other"
            remarks.append("the mask counts" if _takes(new, "mask") else "the mask is not used")
        self.replacements.append(
            Replacement(
                layer=site.path,
                stage=site.stage,
                old=type(old).__name__,
                new="none" if isinstance(new, keras.layers.Identity) else type(new).__name__,
                carried=handed.carried,
                left_out=handed.left_out,
                chosen=", ".join(filter(None, remarks)),
                outputs=outputs,
            )
        )

    # The rest is copied.

    def model(self, model):
        """A copy of a functional or Sequential model."""
        new = self._sequential(model) if isinstance(model, keras.Sequential) else self._graph(model)
        self.copies[id(model)] = new
        return new

    def copy(self, operation):
        """What takes the place of a layer, or of another operation, of the old model."""
        key = id(operation)
        if key not in self.copies:
            if key in self.norms:
                new = self.norms[key]
            elif _is_graph(operation):
                new = self.model(operation)
            elif _distributes(operation):
                new = keras.layers.TimeDistributed(
                    self.copy(operation.layer), name=operation.name, dtype=operation.dtype_policy
                )
            elif isinstance(operation, keras.layers.Layer):
                new = _copied_layer(operation)
                self.origins[id(new)] = operation
            else:
                # An operation has no state; only where it is called must not be shared.
                new = copy.copy(operation)
                new._inbound_nodes, new._outbound_nodes = [], []
            self.copies[key] = new
        return self.copies[key]

    def call(self, operation, *args, **kwargs):
        """Call a copy as the original was called; its weights are there then."""
        if isinstance(operation, keras.layers.Layer):
            kwargs = {
                key: value
                for key, value in kwargs.items()
                if key != "mask" or _takes(operation, "mask")
            }
        outputs = operation(*args, **kwargs)
        self._fill(operation)
        return outputs

    def _fill(self, new):
        """Copy a layer's state, once."""
        old = self.origins.pop(id(new), None)
        if old is not None:
            self.pairs.extend(_copy_state(old, new))

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
        if model.inputs and isinstance(model._layers[0], keras.layers.InputLayer):
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

    def finish(self, model, new_model):
        """Make the same layers trainable."""
        norms = {id(new): new.trainable for new in self.norms.values()}

        def visit(old, new):
            new.trainable = norms.get(id(new), old.trainable)
            if id(new) in norms:
                return
            if _is_graph(old):
                for layer in old.layers:
                    visit(layer, self.copies.get(id(layer), layer))
                return
            if _distributes(old):
                visit(old.layer, new.layer)
                return
            pairs = zip(
                old._flatten_layers(include_self=False),
                new._flatten_layers(include_self=False),
                strict=True,
            )
            for inner, copied in pairs:
                copied.trainable = inner.trainable

        # Input layers have no copies in the table, and nothing to train.
        visit(model, new_model)


def _takes(layer, argument):
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
    layer = tensor._keras_history[0]
    return type(layer).from_config(layer.get_config()).output


def _copied_layer(layer):
    """A layer of the same configuration, without weights yet."""
    if type(layer) is keras.layers.Lambda:
        # Its function as it is: written to a configuration it would lose what it refers to.
        return keras.layers.Lambda(
            layer.function,
            output_shape=layer._output_shape,
            mask=layer.mask,
            arguments=layer.arguments,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
    inner = {type(part).__name__: type(part) for part in layer._flatten_layers()}
    own = {name: c for name, c in inner.items() if not c.__module__.startswith("keras.")}
    try:
        with keras.saving.custom_object_scope(own):
            new = type(layer).from_config(layer.get_config())
    except Exception as error:
        raise ValueError(
            f"replace_norms: layer '{layer.name}' ({type(layer).__name__}) cannot be copied: "
            f"{error}\nNeeded: `get_config` and `from_config` that make it again, as for saving."
        ) from error
    if new.name != layer.name:
        new.name = layer.name
    return new


def _copy_state(old, new):
    """Copy all variables and tables of a layer that is no norm."""
    pairs = list(zip(old.variables, new.variables, strict=False))
    if len(old.variables) != len(new.variables) or any(
        tuple(a.shape) != tuple(b.shape) for a, b in pairs
    ):
        raise ValueError(
            f"replace_norms: layer '{old.name}' ({type(old).__name__}) has variables of shapes "
            f"{[tuple(v.shape) for v in old.variables]}, made again from its configuration "
            f"{[tuple(v.shape) for v in new.variables]}. Needed: a layer whose configuration "
            "makes the same variables."
        )
    for source, target in pairs:
        assign(target, source)
        target.trainable = source.trainable
    layers = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
    for source, target in layers:
        if isinstance(target, keras.layers.Normalization):
            target.finalize_state()
        if hasattr(source, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)
    return pairs


# Compiling.


def _compile_like(old, new, pairs):
    """Compile the new model as the old one is; sentences on what became of it."""
    if not old.compiled:
        return []
    config = dict(getattr(getattr(old, "_compile_config", None), "config", None) or {})
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
    places = {id(variable): index for index, variable in enumerate(old._trainable_variables)}
    matches = [
        (places[sources[id(variable)]], index)
        for index, variable in enumerate(new._trainable_variables)
        if sources.get(id(variable)) in places
    ]
    copies, known = [], set()
    for name, value in vars(old).items():
        if hasattr(value, "assign") and hasattr(value, "shape"):
            # The count of steps, the learning rate; not all of them are in `variables`.
            copies.append((value, getattr(new, name)))
            known.add(id(value))
        elif name not in ("_variables", "_trainable_variables") and _state(value):
            if len(value) != len(old._trainable_variables):
                return None
            known.update(id(variable) for variable in value)
            others = getattr(new, name)
            copies.extend((value[one], others[other]) for one, other in matches)
    if any(id(variable) not in known for variable in old._variables):
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
