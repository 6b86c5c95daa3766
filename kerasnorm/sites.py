"""Norm sites: the places of a network that have a norm, and which norm each of them gets."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from kerasnorm.registry import NormSpec, get, parse, takes

FORMS = (
    'a norm spec for all, a pair (first, rest), or {"stages": [a norm spec per stage]}; '
    'a norm spec is a name, a dictionary such as {"name": "group", "groups": 8}, a layer class, a '
    "layer, or None for no norm"
)


@contextlib.contextmanager
def names_before(names):
    """A context in which weights get paths that begin with these names."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(keras.name_scope(name))
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A place of a network that has a norm.

    Attributes:
        path: the names of layers down to the norm.
        shapes: of the inputs of each of its calls, with the batch.
        axis: of the channels.
        stage: the number of its stage.
        masked: whether any of the inputs has a mask.
        scope: names that the paths of its weights begin with, inside a layer that is code.
        old: the norm that is there, where the network exists.
        norm: the norm that it is to get; None for none.
        defaults: arguments by layer class, where `norm` does not give them.
    """

    path: str
    shapes: tuple[tuple, ...]
    axis: int
    stage: int = 0
    masked: bool = False
    scope: tuple[str, ...] = ()
    old: Any = None
    norm: NormSpec | None = None
    defaults: Mapping[type, dict] = dataclasses.field(default_factory=dict)

    @property
    def shape(self):
        """The shape of the inputs of the first call."""
        return self.shapes[0]

    @property
    def channels(self):
        """How many channels are normalized."""
        return self.shape[self.axis]

    @property
    def spec(self):
        """The spec of the norm that it is to get, as it was given."""
        return None if self.norm is None else self.norm.written

    @property
    def size(self):
        """The spatial size: the shape without batch and channels."""
        channels = self.axis % len(self.shape)
        return tuple(s for axis, s in enumerate(self.shape) if axis not in (0, channels))

    def layer(self):
        """The norm that it is to get, not built yet."""
        # -1 is what every norm takes by itself.
        axis = None if self.axis == -1 else self.axis
        return norm_layer(self.norm, self.channels, axis, self.defaults, name=self.path)

    def built_layer(self):
        """The same, built; an error where it is illegal."""
        return self.built(self.layer())

    def built(self, layer):
        """A norm, built here and checked against each of the calls."""
        with names_before(self.scope):
            layer.build(self.shape)
        for shape in self.shapes:
            layer.compute_output_spec(keras.KerasTensor(shape, dtype=layer.compute_dtype))
        return layer


class Specs:
    """What norm each site of a network gets.

    A site is a place where a network has a norm. Sites are counted from 0 in the order in which
    they are called. A stage is a part of the network that works at one resolution: where a network
    is taken as it is found (`kerasnorm.replace_norms`), a maximal run of sites with the same
    spatial size; the functions of `kerasnorm.models` say what their stages are.

    Args:
        spec: one of
            a norm spec, for every site;
            a pair `(first, rest)` of them, for site 0 and for all others (a list of two, which is
            what JSON makes of a pair, is the same);
            `{"stages": [spec, ...]}`, one for each stage, in order.
        stages: how many stages the network has. None leaves the number unchecked.
        of: the network, as an error names it.

    Example:
        >>> from kerasnorm.sites import Specs
        >>> specs = Specs(("mode", "batch"))
        >>> specs.at(site=0, stage=0), specs.at(site=1, stage=0)
        ('mode', 'batch')
        >>> specs = Specs({"stages": ["mode", {"name": "group", "groups": 8}, None]}, stages=3)
        >>> specs.at(site=7, stage=2) is None
        True
    """

    def __init__(self, spec, stages=None, of="the network"):
        self.per_stage = isinstance(spec, dict) and "stages" in spec
        if self.per_stage:
            specs = _stages(spec, stages, of)
        elif isinstance(spec, (tuple, list)):
            if len(spec) != 2:
                raise ValueError(f"norm specs {spec!r} for {of}. Needed: {FORMS}.")
            specs = list(spec)
        else:
            specs = [spec]
        for one in specs:
            if isinstance(one, (tuple, list)) or (isinstance(one, dict) and "stages" in one):
                raise ValueError(
                    f"norm specs {spec!r} for {of}: {one!r} is several specs inside of several. "
                    f"Needed: {FORMS}."
                )
        self.norms = [parse(one) for one in specs]

    def at(self, site, stage=0):
        """The spec of a site, as it was given.

        Args:
            site: the number of the site; only whether it is 0 counts.
            stage: the number of its stage.

        Returns:
            A single norm spec, or None for no norm.
        """
        norm = self.norm_at(site, stage)
        return None if norm is None else norm.written

    def norm_at(self, site, stage=0):
        """The same, read: a `NormSpec`, or None for no norm."""
        if self.per_stage:
            return self.norms[stage]
        return self.norms[0 if site == 0 else -1]


def norm_layer(spec, channels=None, axis=None, defaults=None, **overrides):
    """The layer of a single spec, with the group arguments that it leaves open resolved as "auto".

    Args:
        spec: a norm spec.
        channels: of the site; needed to find a group count for Keras's own GroupNormalization,
            which has no "auto".
        axis: of the channels, where the spec does not give it.
        defaults: arguments by layer class, where the spec does not give them.
        **overrides: as in `kerasnorm.get`.

    >>> from kerasnorm.sites import norm_layer
    >>> layer = norm_layer("group", axis=1, name="norm")
    >>> layer.groups, layer.axis
    ('auto', 1)
    """
    norm = parse(spec)
    if norm is None:
        return get(None, **overrides)
    if norm.inner is not None:
        # What the site decides is for the norms in the banks.
        inner = norm_layer(norm.inner, channels, axis, defaults)
        return norm.layer(**{"norm": inner, **overrides})
    place = {} if axis is None or not takes(norm.layer_class, "axis") else {"axis": axis}
    place |= (defaults or {}).get(norm.layer_class, {})
    place = {key: value for key, value in place.items() if key not in norm.given}
    return norm.layer(**{**norm.open_arguments(channels), **place, **overrides})


def at_each_site(make, sites, of, made, otherwise="several specs"):
    """What `make` gives for each site; one error names all sites where it refuses.

    Args:
        make: a function of a site, which raises an error where a norm is illegal.
        sites: objects with a `path`.
        of: the network, and
        made: what happens to its norms, as the error names them.
        otherwise: what else the error says to do.

    Returns:
        A list.
    """
    results, refused = [], []
    for site in sites:
        try:
            results.append(make(site))
        except (TypeError, ValueError, ArithmeticError) as error:
            refused.append(f"  {site.path}: {error}")
    if refused:
        listed = "\n".join(refused)
        raise ValueError(
            f"{of}: {len(refused)} of {len(sites)} norms cannot be {made}.\n{listed}\n"
            f"Needed: a spec that is legal there, or {otherwise}. A group argument that is not "
            "given is chosen for each layer."
        )
    return results


def _stages(spec, stages, of):
    """The list of specs in `{"stages": [...]}`, checked."""
    listed = spec["stages"]
    if set(spec) != {"stages"} or not isinstance(listed, (tuple, list)) or not listed:
        raise ValueError(f"norm specs {spec!r} for {of}. Needed: {FORMS}.")
    if stages is not None and len(listed) != stages:
        raise ValueError(
            f"norm specs {spec!r}: {len(listed)} specs, but {of} has {stages} stages. Needed: "
            f"{stages} specs, one for each stage in order."
        )
    return list(listed)
