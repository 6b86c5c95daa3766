"""Norm sites: which norm each place of a network gets, where one spec or several are given."""

import keras

from kerasnorm.consistent import ConsistentNorm
from kerasnorm.registry import auto_arguments, get, given_arguments, parse, takes

FORMS = (
    'a norm spec for all, a pair (first, rest), or {"stages": [a norm spec per stage]}; '
    'a norm spec is a name, a dictionary such as {"name": "group", "groups": 8}, a layer class, a '
    "layer, or None for no norm"
)


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
            self.specs = _stages(spec, stages, of)
        elif isinstance(spec, (tuple, list)):
            if len(spec) != 2:
                raise ValueError(f"norm specs {spec!r} for {of}. Needed: {FORMS}.")
            self.specs = list(spec)
        else:
            self.specs = [spec]
        for one in self.specs:
            if isinstance(one, (tuple, list)) or (isinstance(one, dict) and "stages" in one):
                raise ValueError(
                    f"norm specs {spec!r} for {of}: {one!r} is several specs inside of several. "
                    f"Needed: {FORMS}."
                )
            if one is not None:
                parse(one)

    def at(self, site, stage=0):
        """The spec of a site.

        Args:
            site: the number of the site; only whether it is 0 counts.
            stage: the number of its stage.

        Returns:
            A single norm spec, or None for no norm.
        """
        if self.per_stage:
            return self.specs[stage]
        return self.specs[0 if site == 0 else -1]


def specs_of_sites(spec, stages, of="the network"):
    """The spec of each site, given the stage of each site.

    >>> from kerasnorm.sites import specs_of_sites
    >>> specs_of_sites({"stages": ["batch", "group"]}, stages=[0, 0, 1])
    ['batch', 'batch', 'group']
    """
    specs = Specs(spec, len(set(stages)), of)
    return [specs.at(site, stage) for site, stage in enumerate(stages)]


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
    if spec is None:
        return get(spec, **overrides)
    layer_class, given = given_arguments(spec)
    if issubclass(layer_class, ConsistentNorm) and "norm" in given:
        # What the site decides is for the norms in the banks.
        inner = norm_layer(inner_spec(given["norm"]), channels, axis, defaults)
        return get(spec, **{"norm": inner, **overrides})
    place = {} if axis is None or not takes(layer_class, "axis") else {"axis": axis}
    place |= (defaults or {}).get(layer_class, {})
    place = {key: value for key, value in place.items() if key not in given}
    return get(spec, **{**auto_arguments(spec, channels), **place, **overrides})


def inner_spec(norm):
    """The norm of a `ConsistentNorm` as a spec; Keras's own writing of a layer becomes one."""
    if isinstance(norm, dict) and "class_name" in norm:
        return keras.saving.deserialize_keras_object(norm)
    return norm


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
