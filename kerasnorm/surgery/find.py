"""Finding the norms of a model, and selecting among them."""

import dataclasses
import fnmatch
import itertools

import keras

from kerasnorm.core.keras_internals import calls_in, has_mask, layers_in
from kerasnorm.registry import is_norm
from kerasnorm.sites import Site
from kerasnorm.surgery.compare import channel_axis_of
from kerasnorm.surgery.composite import advice, norms_in


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
    sites, hidden = find(model)
    refuse_hidden(model, hidden, sites, None)
    return [(site.channels, site.size, site.stage) for site in sites]


def is_graph(layer):
    """Whether a layer is a model that is defined by its layers and not by code."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Function) and isinstance(layer, keras.Model)
    )


def is_distributed(layer):
    """Whether a layer is Keras's TimeDistributed around a norm or a model."""
    return type(layer) is keras.layers.TimeDistributed and (
        is_norm(layer.layer) or is_graph(layer.layer)
    )


def find(model):
    """The norms of a model.

    Returns:
        `sites, hidden`: a `Site` for each norm in the model's graph, and in layers of a class given
        to `register_composite`, in the order of the layers; and `(path, norm, holder)` for each
        other norm inside of a layer that is defined by its own code.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"replace_norms: model={model!r}. Needed: a Keras model.")
    sites: list[Site] = []
    hidden: list[tuple] = []
    seen: set[int] = set()

    def inside(layer, path, known=()):
        hidden.extend(
            (f"{path}{inner.name}", inner, layer)
            for inner in layers_in(layer, include_self=False)
            if is_norm(inner) and id(inner) not in known
        )

    def composite(layer, path, nodes):
        known: set[int] = set()
        masked = any(has_mask(tensor) for node in nodes for tensor in node.input_tensors[:1])
        for inner in norms_in(layer):
            known.update(map(id, layers_in(inner.norm)))
            if id(inner.norm) in seen:
                continue
            seen.add(id(inner.norm))
            site = _site(f"{path}/{'/'.join(inner.names)}", inner.norm, [])
            scope = (layer.name, *inner.names[:-1])
            sites.append(dataclasses.replace(site, masked=masked, scope=scope))
        inside(layer, f"{path}/", known)

    def visit(graph, prefix):
        calls: dict[int, list] = {}
        for node in calls_in(graph):
            calls.setdefault(id(node.operation), []).append(node)
        for layer in graph.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            path = f"{prefix}{layer.name}"
            if is_norm(layer):
                sites.append(_site(path, layer, calls.get(id(layer), [])))
            elif is_graph(layer):
                visit(layer, f"{path}/")
            elif is_distributed(layer) and id(layer.layer) not in seen:
                seen.add(id(layer.layer))
                path = f"{path}/{layer.layer.name}"
                if is_norm(layer.layer):
                    sites.append(_site(path, layer.layer, []))
                else:
                    visit(layer.layer, f"{path}/")
            else:
                composite(layer, path, calls.get(id(layer), []))

    if not is_graph(model):
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
    ends = [site.size != before.size for before, site in itertools.pairwise(sites)]
    stages = itertools.accumulate(ends, initial=0)
    return [dataclasses.replace(a, stage=b) for a, b in zip(sites, stages, strict=False)], hidden


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
    return Site(
        path,
        tuple(shapes),
        channel_axis_of(layer, len(shapes[0])),
        masked=any(len(node.input_tensors) > 1 for node in nodes),
        old=layer,
    )


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


def refuse_hidden(model, hidden, sites, where):
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
    calls = dict.fromkeys(line for *_, holder in hidden for line in advice(holder))
    said = "".join(f"\n  {line}" for line in calls)
    if calls:
        said = f"; or these calls, if the layers use nothing of their norms but call them:{said}"
    raise ValueError(
        f"replace_norms: model '{model.name}' has norms inside layers with their own code:\n"
        f"{listed}\nThey cannot be replaced yet, because such a layer would create its old norms "
        "again when it is saved and loaded. Needed: layers that take their norms as an argument; "
        "or `where` to select other norms"
        + (f", such as where={sites[0].path!r}" if sites else " (there are none)")
        + (said or ".")
    )


def _stage_number(where):
    """The number in "stage:2", or None for another string."""
    head, _, number = where.partition(":")
    return int(number) if head == "stage" and number.lstrip("-").isdigit() else None


def _matches(pattern, path, layer):
    """Whether a pattern fits a layer's name or path."""
    return fnmatch.fnmatchcase(layer.name, pattern) or fnmatch.fnmatchcase(path, pattern)


def select(sites, where):
    """The sites that are to be replaced."""
    stages = sorted({site.stage for site in sites})
    number = _stage_number(where) if isinstance(where, str) else where
    if where is None:
        return list(sites)
    if where == "first":
        selected = [index == 0 for index in range(len(sites))]
    elif isinstance(number, int) and not isinstance(number, bool):
        wanted = stages[number] if -len(stages) <= number < len(stages) else None
        selected = [site.stage == wanted for site in sites]
    elif isinstance(where, slice):
        selected = [site.stage in stages[where] for site in sites]
    elif isinstance(where, str):
        selected = [_matches(where, site.path, site.old) for site in sites]
    elif callable(where):
        selected = [bool(where(site.old)) for site in sites]
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
            + (listed or "  (the model itself has no norm)")
        )
    return [site for site, wanted in zip(sites, selected, strict=True) if wanted]


def _size(size):
    """A spatial size as a reader sees it."""
    return "x".join("?" if s is None else str(s) for s in size) or "none"
