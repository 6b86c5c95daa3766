"""From a spec to the finished model, step by step."""

import dataclasses

from kerasnorm.sites import Specs, at_each_site
from kerasnorm.surgery.find import find, refuse_hidden, select
from kerasnorm.surgery.inherit import hand_on, successor
from kerasnorm.surgery.rebuild import rebuild
from kerasnorm.surgery.recompile import compile_like
from kerasnorm.surgery.report import Report


def replace_norms(model, spec, where=None, carry=True, preserve=False):
    """Return a new model with other normalization layers and the same remaining weights.

    It replaces Keras's BatchNormalization, GroupNormalization, LayerNormalization and
    RMSNormalization, the layers of this package, and classes given to `kerasnorm.register`; nested
    models are searched too, and so are layers of a class given to
    `kerasnorm.register_composite`. It does not replace `keras.layers.Normalization` or
    `UnitNormalization`. The given model is not changed.

    Args:
        model: a functional or `Sequential` model, built.
        spec: a norm spec for all norms; a pair `(first, rest)`; or `{"stages": [spec, ...]}`. None
            removes a norm. Norms are counted in the order of `model.layers`; a stage is a longest
            possible run of them with the same spatial size. Group arguments that are not given are
            "auto".
        where: which norms to replace; None is all of them.
            A string is a pattern for a norm's name or path (`"conv5_*"`, `"encoder/*"`), or
            `"first"`, or `"stage:2"`. An integer is the number of a stage, from 0 (-1 is the last),
            a slice selects several. A function takes a layer and returns whether to replace it.
            Norms and stages are counted in the whole model, whatever `where` selects.
        carry: take over gamma, beta, moving statistics, epsilon, momentum, center, scale, groups,
            initializers, regularizers, constraints, `trainable` and `synchronized`, wherever both
            layers have them. Arguments in the spec take precedence. If False, a norm keeps only
            its name, axis and dtype policy.
        preserve: start the new layers' own weights so that the model computes what it did before,
            as closely as the method allows.

    Returns:
        The new model, which is functional or `Sequential`. If the class of the given model has its
        own configuration, like those of KerasHub, the new model is a plain functional model,
        because that class could not describe the new norms. It is compiled like the given model,
        with the optimizer's state for the weights that were kept. `report_of(new_model)` tells
        what was done.

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
            "replace_norms: preserve=True with carry=False. Needed: carry=True, because the "
            "function cannot be kept without the old layers' weights."
        )
    sites, hidden = find(model)
    specs = Specs(spec, len({site.stage for site in sites}), f"model '{model.name}'")
    sites = [
        dataclasses.replace(site, norm=specs.norm_at(number, site.stage))
        for number, site in enumerate(sites)
    ]
    refuse_hidden(model, hidden, sites, where)
    selected = select(sites, where)
    # The new norms come first, so that all that is illegal is found before anything else is made.
    norms = at_each_site(
        lambda site: site.built(successor(site, carry, preserve)),
        selected,
        "replace_norms",
        "replaced",
        "`where` for the others",
    )
    handed = [
        hand_on(site, norm, carry, preserve) for site, norm in zip(selected, norms, strict=True)
    ]
    layers = [(site.old, norm) for site, norm in zip(selected, norms, strict=True)]
    rebuilt = rebuild(model, layers)
    pairs = [pair for one in (*handed, rebuilt) for pair in one.pairs]
    notes = [*rebuilt.notes, *compile_like(model, rebuilt.model, pairs)]
    rebuilt.model.norm_report = Report(
        tuple(one.replacement for one in handed),
        tuple(site.path for site in sites if site not in selected),
        tuple(notes),
    )
    return rebuilt.model
