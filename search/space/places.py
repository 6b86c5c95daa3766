"""Where norms go: the places of a network, and the values that are legal at all of them."""

from dataclasses import dataclass

import kerasnorm
from kerasnorm.registry import name_of, parse, row_of
from search.errors import BadInput, unknown


@dataclass(frozen=True)
class Place:
    """What the search has to know of a place of a network that has a norm.

    Attributes:
        channels: how many.
        size: the spatial size, `()` where the data have no positions; None where nothing is known
            of it. An entry is None where that side is not fixed.
        stage: the number of its stage, from 0.
    """

    channels: int
    size: tuple | None = None
    stage: int = 0


def sites_of(network):
    """The norm sites of a model, or of a list of `Place`s or channel counts.

    >>> import keras
    >>> from search.space import sites_of
    >>> sites_of([16, 32])
    [Place(channels=16, size=None, stage=0), Place(channels=32, size=None, stage=0)]
    """
    if hasattr(network, "layers"):
        # Surgery knows what a norm site is; so models that are searched are those that it takes.
        from kerasnorm.surgery import norm_sites
        from kerasnorm.surgery.find import is_graph

        if not is_graph(network):
            return _sites_in_parts(network)
        return [Place(*one) for one in norm_sites(network)]
    sites = [site if isinstance(site, Place) else Place(site) for site in network]
    for site in sites:
        if isinstance(site.channels, bool) or not isinstance(site.channels, int):
            raise BadInput(
                f"a norm site has {site.channels!r} channels. Needed: a positive integer."
            )
        if site.channels < 1:
            raise BadInput(f"a norm site has {site.channels} channels. Needed: at least 1.")
    if not sites:
        raise BadInput("the network has no norm. Needed: at least one to search over.")
    return sites


def _sites_in_parts(model):
    """The norm sites of a model with its own `call`: those of the models and layers in it."""
    from kerasnorm.core.keras_internals import layers_in
    from kerasnorm.registry import is_norm
    from kerasnorm.surgery import norm_sites
    from kerasnorm.surgery.compare import channel_axis_of
    from kerasnorm.surgery.find import is_graph

    sites: list[Place] = []

    def visit(layer):
        stage = 1 + max((site.stage for site in sites), default=-1)
        if is_graph(layer):
            if any(map(is_norm, layers_in(layer))):
                sites.extend(Place(a, b, stage + c) for a, b, c in norm_sites(layer))
        elif is_norm(layer):
            shape: tuple = tuple((layer.get_build_config() or {}).get("input_shape") or ())
            channels = shape[channel_axis_of(layer, len(shape))] if len(shape) > 1 else None
            if channels is None:
                raise BadInput(
                    f"model {model.name!r} holds the norm {layer.name!r}, which is not built. "
                    "Needed: a function that returns a model that was called or built."
                )
            sites.append(Place(channels, None, stage))
        else:
            for part in layers_in(layer, include_self=False, recursive=False):
                visit(part)

    visit(model)
    if not sites:
        raise BadInput(
            f"model {model.name!r} holds no norm that is known. Needed: norms of "
            "`kerasnorm.get(norm)` in its layers, or in models that are attributes of it."
        )
    return sites


def norm_name(word):
    """The registered name of a norm that the space can hold."""
    try:
        name = name_of(parse(word).layer_class)
    except (ValueError, TypeError):
        raise unknown("norm", word, kerasnorm.available()) from None
    if name == "consistent":
        raise BadInput(
            'norm "consistent" wraps another norm. Needed: that norm, with branches=(1, 2, ...).'
        )
    return name


def legal_arguments(norm, sites):
    """The arguments of a norm that are searched, each with the values legal at all these sites.

    The default comes first: the paper's, or the legal one that is nearest below it. A single value
    leaves nothing to choose; None in its place leaves the argument open.

    >>> from search.space import Place, legal_arguments
    >>> legal_arguments("group", [Place(24), Place(40)])
    [('groups', (8, 2, 4))]
    """
    return [(one.name, one.choices(sites)) for one in row_of(norm).arguments]
