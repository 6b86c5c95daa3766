"""The arguments that specs leave open, chosen for each norm."""

import dataclasses

from kerasnorm.conversion.capture import Inputs
from kerasnorm.conversion.fit import explained_by, fit
from kerasnorm.core.layer import Normalization
from kerasnorm.surgery.compare import in_use, weights_of

# Channels of all sites that one pass over the data serves; it keeps 48 bytes for each channel and
# example.
CHANNELS_AT_ONCE = 4096
# What predictions of the least size have to explain.
NEARLY_ALL = 0.998


def choose(model, sites, batches, room, budget, build):
    """The arguments that specs leave open, for each site.

    Each choice is that of the norm which explains most of the old outputs, given the old inputs.

    Args:
        model: the old one.
        sites: `Site`s with the norms that they are to get.
        batches: of inputs.
        room: for tensors that are kept, `Room`.
        budget: how many more weights the model may get, as a part of those that it has.
        build: makes the new layer of a site, as a swap leaves it.

    Returns:
        A dictionary for each site.
    """
    choices = [_choices(site) for site in sites]
    open_sites = [
        n for n, several in enumerate(choices) if len(several) > 1 or "reduction" in several[0]
    ]
    chosen = [several[0] for several in choices]
    inputs = Inputs(model, batches, room)
    for group in _groups_of(open_sites, sites):
        measured = inputs.statistics([(sites[n].old, sites[n].axis) for n in group])
        for n, data in zip(group, measured, strict=True):
            chosen[n] = _best(sites[n], choices[n], data, build)
    return _within(budget, model, sites, chosen, build)


def with_arguments(norm, more):
    """A spec with further arguments."""
    if norm is None or not more:
        return norm
    return dataclasses.replace(
        norm, arguments={**norm.arguments, **more}, written={**norm.given, **more}
    )


def _choices(site):
    """Combinations of arguments that the spec of a site leaves open; predictions are smallest."""
    norm = site.norm
    if norm is None or not issubclass(norm.layer_class, Normalization):
        return [{}]
    least = {"reduction": site.channels} if hasattr(norm.layer_class, "key_groups_of") else {}
    # What the old norm needs no gamma or beta for, another one may need them for.
    there = weights_of(in_use(site.old))
    added = {name: True for name, of in (("scale", "gamma"), ("center", "beta")) if of not in there}
    several = [
        {key: value for key, value in {**more, **added, **least}.items() if key not in norm.given}
        for more in norm.layer_class.fit_choices(site.channels)
    ]
    return [more for n, more in enumerate(several) if more not in several[:n]]


def _best(site, choices, data, build):
    """The arguments with which a layer explains most before any L-BFGS.

    The first that explain nearly all of it keep their small predictions: L-BFGS does the rest.
    Otherwise the size of these is left open.
    """
    worth = []
    for more in choices:
        layer = build(dataclasses.replace(site, norm=with_arguments(site.norm, more)))
        fit(layer, data, steps=0)
        worth.append(explained_by(layer, data))
        if worth[-1] > NEARLY_ALL:
            return more
    best = choices[worth.index(max(worth))]
    return {key: value for key, value in best.items() if key != "reduction"}


def _groups_of(numbers, sites):
    """Sites that share a pass over the data."""
    group: list[int] = []
    for n in numbers:
        if group and sum(sites[m].channels for m in [*group, n]) > CHANNELS_AT_ONCE:
            yield group
            group = []
        group.append(n)
    if group:
        yield group


def _within(budget, model, sites, chosen, build):
    """Where the size of predictions is open, the smallest reductions that keep the budget.

    That is one for all, and smaller ones for narrow norms as far as there is room: a larger code
    costs least there, it explains most there, and these norms come first in most networks.
    """
    sized = [
        n
        for n, site in enumerate(sites)
        if site.norm is not None
        and hasattr(site.norm.layer_class, "key_groups_of")
        and "reduction" not in {**site.norm.given, **chosen[n]}
    ]
    if not sized:
        return chosen
    widest = max(sites[n].channels for n in sized)
    smallest = _with_reductions(chosen, dict.fromkeys(sized, widest))
    room = budget * model.count_params() - sum(
        _added(site, more, build) for site, more in zip(sites, smallest, strict=True)
    )

    def beyond_smallest(reductions):
        codes = {n: max(sites[n].channels // reductions[n], 2) for n in sized}
        return sum(3 * sites[n].channels * (codes[n] - 2) for n in sized)

    common = 1
    while common < widest and beyond_smallest(dict.fromkeys(sized, common)) > room:
        common *= 2
    reductions = dict.fromkeys(sized, common)
    for n in sorted(sized, key=lambda n: sites[n].channels):
        smaller = (2**k for k in range(common.bit_length() - 1))
        fitting = (less for less in smaller if beyond_smallest({**reductions, n: less}) <= room)
        reductions[n] = next(fitting, common)
    return _with_reductions(chosen, reductions)


def _with_reductions(chosen, reductions):
    """The arguments of all sites, with those of predictions whose size is open."""
    return [
        {**more, "reduction": reductions[n]} if n in reductions else more
        for n, more in enumerate(chosen)
    ]


def _added(site, more, build):
    """How many more weights the norm of a site has than the old one."""
    if site.norm is None:
        return 0
    new = build(dataclasses.replace(site, norm=with_arguments(site.norm, more)))
    return new.count_params() - in_use(site.old).count_params()
