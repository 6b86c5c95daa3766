"""From a trained model to one with other norms and the same function, step by step."""

import dataclasses
import textwrap
import time

import keras
import numpy as np

from kerasnorm.conversion.capture import Pairs
from kerasnorm.conversion.choose import choose, with_arguments
from kerasnorm.conversion.data import examples_of
from kerasnorm.conversion.distil import distil, training
from kerasnorm.conversion.fit import explained_by, fit
from kerasnorm.conversion.fold import layers_before, line_through
from kerasnorm.conversion.passes import Room, steps_of
from kerasnorm.conversion.report import ConversionReport, ConvertedSite
from kerasnorm.conversion.twin import twin_of
from kerasnorm.sites import Specs, at_each_site
from kerasnorm.surgery.compare import in_use, weights_of
from kerasnorm.surgery.find import find, refuse_hidden, select
from kerasnorm.surgery.inherit import hand_on, successor
from kerasnorm.surgery.rebuild import rebuild
from kerasnorm.surgery.recompile import compile_like

# What "best" tries: norms that look at one example at a time.
BEST = ("layer", "group", "instance", "mode_group", "ilm_layer", "ilm_group", "ilm_instance")


def convert(
    model,
    spec,
    data,
    labels=None,
    where=None,
    *,
    examples=512,
    batch_size=64,
    budget=0.05,
    sites_at_once=1,
    memory=1024,
    fit_steps=100,
    steps=0,
    train="norms",
    learning_rate=1e-3,
    verbose=1,
):
    """A trained model with other norms that computes what it did, without training it again.

    Norm by norm, in the order in which the model calls them, the new layer's weights are fitted to
    what the old layer gave for some unlabelled examples, given what the new norms before it pass
    on. What a spec leaves open (group counts, the size of a prediction) is chosen for each norm by
    what it explains of the old outputs. `report_of(new_model)` says how well that went.

    A norm that looks at one example alone cannot know the statistics of the batches that the model
    was trained on, but ILM's norms predict what rescales them from the example's own statistics.
    Fitted, they come nearest to a batch norm.

    Args:
        model: a functional or `Sequential` model, trained. It is left as it is.
        spec: as in `replace_norms`, where a pair is a tuple; or a list of norm specs that are tried
            one after the other, of which the one that keeps most is taken; `"best"` is a list of
            those that look at one example at a time.
        data: unlabelled examples of what the model is used for: arrays, or batches as `fit` takes
            them. Labels in batches serve the report.
        labels: of arrays, for the report.
        where: which norms, as in `replace_norms`.
        examples: how many examples at most to work on; an eighth of them is held out.
        batch_size: of arrays.
        budget: how many more weights the model may get, as a part of those that it has, where the
            size of predictions is open.
        sites_at_once: how many norms a pass over the data serves. More is faster and less exact.
        memory: for tensors that are kept between norms, in MB. Batches that have no room in it pass
            through both models from the start for each norm.
        fit_steps: of L-BFGS at most, for each norm with weights beyond gamma and beta.
        steps: of training afterwards on the old model's predictions, without labels. Where they
            bring the predictions for held-out examples no nearer, they are taken back.
        train: what these steps train: `"norms"`, or `"all"` of the weights.
        learning_rate: of these steps, for Adam; it falls to zero as a half cosine.
        verbose: 0 shows nothing.

    Returns:
        The new model, compiled as the given one is.

    Example:
        >>> import keras, numpy as np
        >>> import kerasnorm
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3), kerasnorm.BatchNorm()]
        >>> model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
        >>> images = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
        >>> new = kerasnorm.convert(model, "layer", images, verbose=0)
        >>> type(new.layers[1]).__name__
        'LayerNorm'
        >>> 0.5 < kerasnorm.report_of(new).sites[0].after <= 1
        True
    """
    if isinstance(spec, str) and spec == "best":
        spec = list(BEST)
    several = isinstance(spec, list)
    if several and not spec:
        raise ValueError("convert: spec=[]. Needed: at least one norm spec.")
    _check(
        budget=budget,
        sites_at_once=sites_at_once,
        memory=memory,
        fit_steps=fit_steps,
        steps=steps,
    )
    if train not in ("norms", "all"):
        raise ValueError(f'convert: train={train!r}. Needed: "norms" or "all".')
    began = time.perf_counter()
    find(model)  # Refuses what is no model, before the data are touched.
    given = examples_of(model, data, labels, examples, batch_size, "convert")
    options = Options(where, budget, sites_at_once, memory, fit_steps)
    specs = spec if several else [spec]
    progress = Progress(len(specs), bool(verbose))
    tried, refused = [], []
    for one in specs:
        try:
            tried.append(_converted(model, one, given, options, progress))
        except ValueError as error:
            if not several:
                raise
            refused.append((_name(one), error))
            progress.skip()
    if not tried:
        raise ValueError(
            f"convert: none of the {len(specs)} norms can be used. Of {refused[0][0]}: "
            f"{refused[0][1]}"
        ) from refused[0][1]
    tried.sort(key=lambda one: one.rank, reverse=True)
    best = tried[0]
    nearer = not steps or distil(
        model, best.model, best.norms, given, steps, train, learning_rate, bool(verbose)
    )
    notes = [
        *([] if nearer else [f"The {steps} steps brought it no nearer and were taken back."]),
        *best.notes,
        *(f"Not possible here: {name}. {textwrap.shorten(str(e), 240)}" for name, e in refused),
    ]
    best.model.norm_report = ConversionReport(
        sites=best.sites,
        **compare(model, best.model, given.held_out),
        examples=(given.count(given.fitting), given.count(given.held_out)),
        parameters=(model.count_params(), best.model.count_params()),
        steps=steps,
        seconds=time.perf_counter() - began,
        ranking=tuple((one.name, one.kept) for one in tried) if several else (),
        notes=tuple(notes),
    )
    return best.model


def calibrate(
    new,
    old,
    data,
    *,
    examples=512,
    batch_size=64,
    sites_at_once=1,
    memory=1024,
    fit_steps=100,
    verbose=1,
):
    """Fit the norms of a model to what those of another one give: a part of `convert`.

    Args:
        new: what `replace_norms(old, ...)` returned, or a model like that. Its norms are changed.
        old: the trained model.
        data, examples, batch_size, sites_at_once, memory, fit_steps, verbose: as in `convert`.

    Returns:
        A `ConvertedSite` for each norm, in the order in which the model calls them.

    Example:
        >>> import keras, numpy as np
        >>> import kerasnorm
        >>> old = keras.Sequential([keras.Input((8, 8, 3)), kerasnorm.BatchNorm()])
        >>> new = kerasnorm.replace_norms(old, "instance")
        >>> images = np.random.default_rng(0).normal(3.0, 2.0, (128, 8, 8, 3)).astype("float32")
        >>> (site,) = kerasnorm.calibrate(new, old, images, verbose=0)
        >>> site.before < site.after
        True
    """
    _check(sites_at_once=sites_at_once, memory=memory, fit_steps=fit_steps)
    given = examples_of(old, data, None, examples, batch_size, "calibrate")
    olds, _ = find(old)
    news = {site.path: site.old for site in find(new)[0]}
    missing = [site.path for site in olds if site.path not in news]
    if missing:
        raise ValueError(
            f"calibrate: model '{new.name}' has no norm {', '.join(missing)}. Needed: the norms of "
            f"model '{old.name}', under the same names."
        )
    pairs = [(site, news[site.path], "", None) for site in in_order(old, olds)]
    options = Options(None, 0.0, sites_at_once, memory, fit_steps)
    return _fitted(old, new, pairs, given, options, Progress(1, bool(verbose)))


def _check(**counts):
    """Refuse numbers that are too small."""
    least = {"sites_at_once": 1}
    for name, value in counts.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value < least.get(name, 0)
        ):
            raise ValueError(
                f"convert: {name}={value!r}. Needed: a number of at least {least.get(name, 0)}."
            )


@dataclasses.dataclass(frozen=True)
class Options:
    """How a conversion goes; see `convert`."""

    where: object
    budget: float
    sites_at_once: int
    memory: float
    fit_steps: int

    def room(self):
        """The memory for tensors that are kept."""
        return Room(self.memory * 1e6)


@dataclasses.dataclass(frozen=True)
class Converted:
    """A model with one of the norms that were tried.

    Attributes:
        name: of its spec.
        model: the new model.
        norms: its new layers.
        sites: the lines of the report.
        kept: what is left of the model's function, from 0 to 1, by agreement where there is one.
        rank: the same, with what decides between equals.
        notes: sentences for the report.
    """

    name: str
    model: keras.Model
    norms: tuple
    sites: tuple
    kept: float
    rank: tuple
    notes: tuple


class Progress:
    """A bar with the time left, over the norms of all the specs that are tried."""

    def __init__(self, specs, show):
        self._specs = specs
        self._show = show
        self._bar = None
        self._done = 0
        self._norms = 0

    def begin(self, norms):
        """So many norms are to be fitted for a spec."""
        self._norms = norms
        if self._show and self._bar is None:
            self._bar = keras.utils.Progbar(norms * self._specs, unit_name="norm")

    def fitted(self, norms):
        """So many more of them are."""
        self._done += norms
        if self._bar is not None:
            self._bar.update(self._done)

    def skip(self):
        """The next spec's turn: those of this one that are left are not fitted."""
        if self._norms:
            self.fitted(-self._done % self._norms or self._norms)


def _converted(model, spec, examples, options, progress):
    """The new model with fitted norms."""
    sites, hidden = find(model)
    specs = Specs(spec, len({site.stage for site in sites}), f"model '{model.name}'")
    sites = [
        dataclasses.replace(site, norm=specs.norm_at(number, site.stage))
        for number, site in enumerate(sites)
    ]
    refuse_hidden(model, hidden, sites, options.where)
    sites = in_order(model, select(sites, options.where))
    progress.begin(len(sites))
    inputs = [x for x, _ in examples.fitting]
    chosen = choose(model, sites, inputs, options.room(), options.budget, _as_swapped)
    sites = [
        dataclasses.replace(site, norm=with_arguments(site.norm, more))
        for site, more in zip(sites, chosen, strict=True)
    ]
    norms = at_each_site(_as_swapped, sites, "convert", "converted", "`where` for the others")
    folds = layers_before(model, [site.old for site in sites if site.norm is None])
    folded = [(before.old, before.new) for before in folds.values()]
    swapped = [(s.old, norm) for s, norm in zip(sites, norms, strict=True)]
    rebuilt = rebuild(model, [*swapped, *folded])
    new = rebuilt.model
    words = [
        ", ".join(f"{key}={getattr(value, '__name__', value)}" for key, value in more.items())
        for more in chosen
    ]
    lines = _fitted(
        model,
        new,
        [
            (site, norm, word, folds.get(id(site.old)))
            for site, norm, word in zip(sites, norms, words, strict=True)
        ],
        examples,
        options,
        progress,
    )
    # Gamma and beta are others now: what an optimizer knew of them is of no use.
    notes = [*rebuilt.notes, *compile_like(model, new, list(rebuilt.pairs))]
    found = compare(model, new, examples.held_out)
    kept = found["explained"] if found["agreement"] is None else found["agreement"]
    return Converted(
        name=_name(spec),
        model=new,
        norms=tuple(norms),
        sites=lines,
        kept=kept,
        rank=(kept, found["explained"]),
        notes=tuple(notes),
    )


def _as_swapped(site):
    """The new norm of a site, as near to the old one as weights alone bring it."""
    norm = site.built(successor(site))
    hand_on(site, norm, preserve=True)
    return norm


def in_order(model, sites):
    """The sites that a call of the model reaches, in the order of the calls."""
    first: dict[int, int] = {}
    for number, step in enumerate(steps_of(model)):
        for layer in step.layers:
            first.setdefault(layer, number)
    reached = [site for site in sites if id(site.old) in first]
    return sorted(reached, key=lambda site: first[id(site.old)])


def _fitted(old, new, pairs, examples, options, progress):
    """Fit one norm after the other.

    Args:
        old, new: the models.
        pairs: `(site, new layer, words, before)` in the order of the calls: the words are for the
            report, and what is before is the layer that a norm goes into, or None.
        examples: `Examples`.
        options: `Options`.
        progress: `Progress`.

    Returns:
        A tuple of `ConvertedSite`.
    """
    progress.begin(len(pairs))
    room = options.room()
    parts = [
        Pairs(old, new, [x for x, _ in batches], room)
        for batches in (examples.held_out, examples.fitting)
    ]
    watched = [
        (site.old, layer, site.axis, (layer,) if before is None else (before.new, layer))
        for site, layer, _, before in pairs
    ]
    lines = []
    compiled: dict = {}
    for start in range(0, len(pairs), options.sites_at_once):
        end = start + options.sites_at_once
        group = pairs[start:end]
        measured = [part.statistics(watched[start:end], watched[end:]) for part in parts]
        for one, held, data in zip(group, *measured, strict=True):
            site, layer, words, before = one
            line = _fit_site(site, layer, words, before, data, held, options.fit_steps, compiled)
            lines.append(line)
        progress.fitted(len(group))
    return tuple(lines)


def _fit_site(site, layer, words, before, data, held, steps, compiled):
    """Fit one norm; its line of the report."""
    names = type(site.old).__name__, type(layer).__name__

    def line(share, after, new=names[1], chosen=words, why_not=""):
        return ConvertedSite(site.path, names[0], new, chosen, share, after, why_not)

    if isinstance(layer, keras.layers.Identity):
        # What the inputs themselves explain of the outputs.
        plain = held.explained(np.ones_like(held.mean), held.mean)
        if before is None:
            return line(plain, None, "none", why_not="no layer before it takes a slope and a shift")
        slope, shift = line_through(data)
        before.take(slope, shift)
        after = held.explained(np.broadcast_to(slope, held.mean.shape), slope * held.mean + shift)
        return line(plain, after, "none", f"goes into '{before.new.name}'")
    with twin_of(layer, site.shape) as twin:
        if twin is None:
            return line(None, None, why_not="its scale and shift are not those of a channel")
        share = explained_by(twin, held)
        with training([twin]):
            # Those of a whole training, where the old norm has them, are better than new ones.
            moving = "moving_mean" not in weights_of(in_use(site.old))
            fit(twin, data, steps, moving, compiled)
        return line(share, explained_by(twin, held))


# The whole.


def compare(old, new, batches):
    """How two models' outputs relate: the fields of a `ConversionReport` that say it."""
    agreements, squares = [], []
    outputs = [[], []]
    for x, _ in batches:
        for kept, model in zip(outputs, (old, new), strict=True):
            flat = keras.tree.flatten(model.predict_on_batch(x))
            kept.append([np.asarray(part, "float64") for part in flat])
    whole = [[np.concatenate(parts) for parts in zip(*kept, strict=True)] for kept in outputs]
    for before, after in zip(*whole, strict=True):
        if before.ndim == 2 and before.shape[1] > 1:
            agreements.append(np.mean(before.argmax(1) == after.argmax(1)))
        # One example does not vary: its distance from zero stands in.
        centre = before.mean(0) if len(before) > 1 else 0.0
        spread = np.square(before - centre).sum()
        squares.append(1.0 - np.square(after - before).sum() / max(spread, 1e-30))
    scores = {}
    if all(y is not None for _, y in batches):
        if old.compiled:
            found = [_evaluated(model, batches) for model in (old, new)]
            scores = {name: (found[0][name], found[1][name]) for name in found[0]}
        elif len(whole[0]) == 1 and agreements:
            labels = np.concatenate([np.reshape(y, -1) for _, y in batches])
            if labels.shape == whole[0][0].shape[:1]:
                before, after = (float(np.mean(one[0].argmax(1) == labels)) for one in whole)
                scores = {"accuracy": (before, after)}
    return {
        "agreement": float(np.mean(agreements)) if agreements else None,
        "explained": float(np.mean(squares)),
        "scores": scores,
    }


def _name(spec):
    """A spec as the ranking names it."""
    named = spec if isinstance(spec, type) else type(spec)
    return named.__name__ if issubclass(named, keras.layers.Layer) else str(spec)


def _evaluated(model, batches):
    """The loss and the metrics on batches."""
    model.reset_metrics()
    for x, y in batches:
        found = model.test_on_batch(x, y, return_dict=True)
    model.reset_metrics()
    return {name: float(value) for name, value in found.items()}
