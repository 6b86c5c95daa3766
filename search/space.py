"""The space: norm sites -> legal choices -> KerasTuner hyperparameters -> norm spec.

Nothing here builds a model. A `NormSpace` is a small tree of `Choice`s; `declare` writes it into a
`keras_tuner.HyperParameters` with conditional scopes, `spec_from` reads a point back.
"""

import dataclasses
import functools
import json
import math
from typing import Any

import kerasnorm
from kerasnorm.core.layer import divisors
from kerasnorm.layers.conv import default_factors
from search.errors import BadInput, unknown

PLAIN = ("batch", "group", "instance", "layer")
# Everything of the papers but Consistent Normalization, which wraps one of these.
NORMS = (
    *PLAIN,
    "ilm_group",
    "ilm_instance",
    "ilm_layer",
    "associate",
    "mode",
    "mode_group",
    "conv",
    "learned_stats",
)
PLACEMENTS = ("all", "first", "stages")
MODES = (2, 3, 4, 6)
# Table 7 of the ILM paper: whatever else was tried for both did not converge.
ACTIVATIONS = ("tanh", "sigmoid", "relu")
BIAS_MODES = ("after", "before", "multiply", "none")
MOST_GROUPS, MOST_KEYS = 64, 64


@dataclasses.dataclass(frozen=True)
class Site:
    """A place of a network that has a norm.

    Attributes:
        channels: how many.
        size: the spatial size; None where it is not fixed, or not an image's.
        stage: the number of its stage, from 0.
    """

    channels: int
    size: tuple | None = None
    stage: int = 0


@dataclasses.dataclass(frozen=True)
class Choice:
    """A hyperparameter.

    Attributes:
        name: in KerasTuner's space.
        values: what may be chosen, the default first. Of a range: lowest and highest.
        parent, parent_values: the choice that this one depends on, and when it is there.
        argument: what it means to `spec_from`; for a reader, too.
        range: whether it is a range of floats, sampled on a log scale.
    """

    name: str
    values: tuple
    parent: str | None = None
    parent_values: tuple = ()
    argument: str = ""
    range: bool = False

    @property
    def default(self):
        """The paper's value, or the legal one nearest to it."""
        return self.values[0] if not self.range else math.sqrt(self.values[0] * self.values[1])

    def active(self, values):
        """Whether it is there, given the values of the choices before it."""
        return self.parent is None or values.get(self.parent) in self.parent_values


class NormSpace:
    """The norm specs that are legal in a network, as a space for KerasTuner.

    Args:
        sites: the norm sites of the network: `Site`s, plain channel counts, or a built functional
            or Sequential Keras model, whose norms are read.
        norms: which norms; None is all of the papers' and the plain ones.
        placements: where: `"all"` is every norm; `"first"` the first one only, with `rest`
            everywhere else; `"stages"` a norm of its own for each stage. Those that a network does
            not have (a single site, a single stage) are left out.
        rest: the norm of the other sites where only the first is placed.
        learning_rates, batch_sizes: further choices, the default first. Learning rates may be a
            pair `("range", lowest, highest)`.
        branches: numbers of transformations for Consistent Normalization to choose from, the
            default first; 1 is none.

    Example:
        >>> from search.space import NormSpace
        >>> space = NormSpace([16, 32, 64], norms=["batch", "ilm_group", "mode"])
        >>> print(space)
        hyperparameter                 values                  when
        -----------------------------  ----------------------  -----------------
        norm                           batch, ilm_group, mode
        ilm_group/groups               16, 2, 4, 8             norm = ilm_group
        ilm_group/key_group_size       16, 1, 2, 4, 8          norm = ilm_group
        ilm_group/mean_activation      tanh, sigmoid, relu     norm = ilm_group
        ilm_group/variance_activation  sigmoid, tanh, relu     norm = ilm_group
        mode/modes                     2, 3, 4, 6              norm = mode
        placement                      all, first              norm is not batch
        369 points
    """

    def __init__(
        self,
        sites,
        norms=None,
        placements=PLACEMENTS,
        rest="batch",
        learning_rates=None,
        batch_sizes=None,
        branches=None,
    ):
        self.sites = sites_of(sites)
        self.branches = (1,) if branches is None else tuple(branches)
        self.rest = _name(rest)
        self.left_out = {}
        wanted = [_name(norm) for norm in (NORMS if norms is None else _words("norms", norms))]
        self.norms = [norm for norm in dict.fromkeys(wanted) if self._is_legal(norm)]
        if not self.norms:
            reasons = "; ".join(f"{norm}: {why}" for norm, why in self.left_out.items())
            raise BadInput(
                f"the space is empty ({reasons or 'no norms were given'}). Needed: at least one of "
                f"{', '.join(NORMS)} that the network can take."
            )
        self.placements = self._legal_placements(_words("placements", placements))
        self.choices = [
            *self._declared_norms(),
            *_listed("learning_rate", learning_rates),
            *_listed("batch_size", batch_sizes),
            *_listed("branches", branches and self.branches),
        ]

    # Legality.

    def _is_legal(self, norm):
        """Whether every site takes the norm; if not, `left_out` says why."""
        if norm == "conv" and any(
            site.size is None or len(site.size) != 2 or None in site.size for site in self.sites
        ):
            self.left_out[norm] = "needs images of a fixed height and width at every norm"
            return False
        return True

    def _legal_placements(self, placements):
        for word in placements:
            if word not in PLACEMENTS:
                raise unknown("placement", word, PLACEMENTS)
        stages = len({site.stage for site in self.sites})
        legal = [
            word
            for word in dict.fromkeys(placements)
            if word == "all"
            or (word == "first" and len(self.sites) > 1)
            or (word == "stages" and stages > 1 and len(self.norms) > 1)
        ]
        return legal or ["all"]

    # The tree.

    def _declared_norms(self):
        """The choices of the norm itself.

        The way of placing hangs below the norm, so that a plain norm at the first site and the
        same at the rest is not a second name for that norm at every site.
        """
        everywhere = [word for word in self.placements if word != "stages"]
        parent: str | None = None
        when: tuple = ()
        if "stages" in self.placements:
            if everywhere:
                yield Choice("per_stage", (False, True), argument="per_stage")
                parent, when = "per_stage", (False,)
            for stage in sorted({site.stage for site in self.sites}):
                # Beside the other ways of placing only the kinds of norms: with the arguments of
                # each in each stage most of the space would be combinations of these.
                yield from self._norm(
                    f"stage_{stage + 1}/",
                    [site for site in self.sites if site.stage == stage],
                    parent,
                    (True,) if everywhere else (),
                    arguments=not everywhere,
                )
        if not everywhere:
            return
        yield from self._norm("", self.sites, parent, when)
        if "first" in everywhere:
            adaptive = tuple(norm for norm in self.norms if norm != self.rest)
            if adaptive:
                yield Choice("placement", tuple(everywhere), "norm", adaptive, "placement")

    def _norm(self, prefix, sites, parent, when, arguments=True):
        """The choice of a norm and of its arguments."""
        root = f"{prefix}norm"
        yield Choice(root, tuple(self.norms), parent, when, "name")
        for norm in self.norms if arguments else ():
            for argument, values in legal_arguments(norm, sites):
                if len(values) > 1:
                    yield Choice(f"{prefix}{norm}/{argument}", values, root, (norm,), argument)

    # KerasTuner.

    def declare(self, hp):
        """Write the space into a `keras_tuner.HyperParameters`; the values that it has are kept."""
        # Nested scopes, as KerasTuner wants them: all ancestors of a choice.
        for choice in self.choices:
            self._declare(hp, choice, self._ancestors(choice))

    def _declare(self, hp, choice, ancestors):
        if ancestors:
            parent, when = ancestors[0]
            with hp.conditional_scope(parent, list(when)):
                self._declare(hp, choice, ancestors[1:])
        elif choice.range:
            low, high = choice.values
            hp.Float(choice.name, low, high, sampling="log", default=choice.default)
        elif choice.values == (False, True):
            hp.Boolean(choice.name, default=choice.default)
        else:
            hp.Choice(choice.name, list(choice.values), default=choice.default, ordered=False)

    def _ancestors(self, choice):
        """Conditions from the root down, as `(parent, values)`."""
        if choice.parent is None:
            return []
        return [
            *self._ancestors(self._named[choice.parent]),
            (choice.parent, choice.parent_values),
        ]

    @functools.cached_property
    def _named(self):
        return {choice.name: choice for choice in self.choices}

    # Points.

    def spec_from(self, hp):
        """The norm spec of a point: `keras_tuner.HyperParameters`, or a dictionary of values."""
        values = self.active(hp if isinstance(hp, dict) else hp.values)
        if values.get("per_stage", self.placements == ["stages"]):
            stages = sorted({site.stage for site in self.sites})
            specs = [
                self._one(f"stage_{n + 1}/", values, [s for s in self.sites if s.stage == n])
                for n in stages
            ]
            # The same norm in every stage is that norm, by a shorter name.
            spec = specs[0] if all(s == specs[0] for s in specs) else {"stages": specs}
        else:
            spec = self._one("", values, self.sites)
            default = self.placements[0] if self.placements[0] != "stages" else "all"
            if values.get("placement", default) == "first" and values["norm"] != self.rest:
                spec = [spec, {"name": self.rest}]
        branches = values.get("branches", 1)
        return spec if branches == 1 else _each(spec, lambda one: _consistent(one, branches))

    def _one(self, prefix, values, sites):
        name = values[f"{prefix}norm"]
        spec = {"name": name}
        for argument, legal in legal_arguments(name, sites):
            value = values.get(f"{prefix}{name}/{argument}", legal[0])
            if value is not None:
                spec.update(_argument(argument, value))
        return spec

    def active(self, values):
        """The values of the choices that are there; missing ones get their default.

        Values that are none of this space's, such as those of an oracle's own, are left out.
        """
        active: dict[str, Any] = {}
        for choice in self.choices:
            if choice.active(active):
                active[choice.name] = values.get(choice.name, choice.default)
        return active

    def key(self, values):
        """What two points share if they are the same trial: spec and further choices, as text."""
        others = {
            name: value
            for name, value in self.active(values).items()
            if name in ("learning_rate", "batch_size")
        }
        return json.dumps([self.spec_from(values), others], sort_keys=True)

    def paper_defaults(self):
        """The points with the papers' values, one for each norm: what is tried first."""
        for norm in self.norms:
            values = {"per_stage": False, "norm": norm}
            if self.placements == ["stages"]:
                stages = {site.stage for site in self.sites}
                values = {f"stage_{stage + 1}/norm": norm for stage in stages}
            yield self.active(values)

    def default_spec(self, norm):
        """The spec of a norm at every site, with the papers' values where they are legal.

        It need not be one of the space's norms.

        >>> from search.space import NormSpace
        >>> NormSpace([16, 24], norms=["mode"]).default_spec("group")
        {'name': 'group', 'groups': 8}
        """
        return self._one("", {"norm": _name(norm)}, self.sites)

    def size(self):
        """How many values there are to choose, all choices considered; inf with a range.

        Where stages are chosen one by one, specs that come out the same are counted more than
        once.
        """

        def below(choice):
            if choice.range:
                return math.inf
            return sum(
                math.prod(
                    below(child)
                    for child in self.choices
                    if child.parent == choice.name and value in child.parent_values
                )
                for value in choice.values
            )

        return math.prod(below(choice) for choice in self.choices if choice.parent is None)

    def points(self):
        """Every point, in the order of the values; of a range, its default only."""

        def extended(values, choices):
            for index, choice in enumerate(choices):
                if choice.active(values):
                    options = (choice.default,) if choice.range else choice.values
                    for value in options:
                        yield from extended({**values, choice.name: value}, choices[index + 1 :])
                    return
            yield values

        return extended({}, self.choices)

    def random_point(self, generator):
        """A point drawn choice by choice with a `random.Random`."""
        values: dict[str, Any] = {}
        for choice in self.choices:
            if choice.active(values):
                if choice.range:
                    low, high = map(math.log, choice.values)
                    values[choice.name] = math.exp(generator.uniform(low, high))
                else:
                    values[choice.name] = generator.choice(choice.values)
        return values

    def unseen(self, seen, generator):
        """A random point whose key is not in `seen`, or None if there is none."""
        for _ in range(200):
            point = self.random_point(generator)
            if self.key(point) not in seen:
                return point
        return next((point for point in self.points() if self.key(point) not in seen), None)

    # For readers.

    def rows(self):
        """The table, as plain rows."""
        return [
            {
                "name": choice.name,
                "values": list(choice.values),
                "range": choice.range,
                "default": choice.default,
                "parent": choice.parent,
                "parent_values": list(choice.parent_values),
                "argument": choice.argument,
            }
            for choice in self.choices
        ]

    def _condition(self, choice):
        """When a choice is there, in words."""
        if choice.parent is None:
            return ""
        others = [v for v in self._named[choice.parent].values if v not in choice.parent_values]
        few = 0 < len(others) < len(choice.parent_values)
        listed = ", ".join(map(str, others if few else choice.parent_values))
        return f"{choice.parent} {'is not' if few else '='} {listed}"

    def __str__(self):
        table = [("hyperparameter", "values", "when")]
        for choice in self.choices:
            values = (
                f"{choice.values[0]:g} to {choice.values[1]:g}"
                if choice.range
                else ", ".join(map(str, choice.values))
            )
            table.append((choice.name, values, self._condition(choice)))
        widths = [max(len(row[i]) for row in table) for i in range(3)]
        table.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        size = self.size()
        lines.append("points without number" if size == math.inf else f"{size:,} points")
        lines += [f"Left out: {norm}, which {why}" for norm, why in self.left_out.items()]
        return "\n".join(lines)


def legal_arguments(norm, sites):
    """The arguments of a norm that are searched, each with the values legal at all these sites.

    The default comes first: the paper's, or the legal one that is nearest below it. A single value
    leaves nothing to choose; None in its place leaves the argument open.

    >>> from search.space import Site, legal_arguments
    >>> legal_arguments("group", [Site(24), Site(40)])
    [('groups', (8, 2, 4))]
    """
    common = math.gcd(*(site.channels for site in sites))
    arguments: list[tuple] = []
    if norm in ("group", "ilm_group", "associate"):
        # One group is layer norm, one per channel at every site is instance norm.
        single = {site.channels for site in sites} == {common}
        counts = [
            d for d in divisors(common) if 1 < d <= MOST_GROUPS and not (single and d == common)
        ]
        arguments.append(("groups", _default_first(counts, 32) or (None,)))
    if norm in ("ilm_group", "ilm_instance", "ilm_layer"):
        sizes = [d for d in divisors(common) if d <= MOST_KEYS]
        arguments.append(("key_group_size", _default_first(sizes, 16)))
        arguments.append(("mean_activation", _first("tanh", ACTIVATIONS)))
        arguments.append(("variance_activation", _first("sigmoid", ACTIVATIONS)))
    if norm == "associate":
        arguments.append(("mean_activation", _first("sigmoid", ACTIVATIONS)))
        arguments.append(("variance_activation", _first("tanh", ACTIVATIONS)))
        arguments.append(("bias_mode", BIAS_MODES))
    if norm in ("mode", "mode_group"):
        arguments.append(("modes", MODES))
    if norm == "conv":
        arguments.append(("kernel_sizes", _stacks(sites)))
        arguments.append(("weighted_variance", (False, True)))
    if norm == "learned_stats":
        arguments.append(("filters", ("4-4-1", "4-4-2-1")))
    return arguments


def words(spec):
    """A norm spec in words.

    >>> from search.space import words
    >>> words({"name": "ilm_group", "groups": 8, "key_group_size": 16})
    'ILM group norm, 8 groups, key groups of 16'
    >>> words([{"name": "mode", "modes": 4}, {"name": "batch"}])
    'first norm: mode norm, 4 modes; others: batch norm'
    """
    if isinstance(spec, dict) and "stages" in spec:
        return "; ".join(f"stage {i}: {words(s)}" for i, s in enumerate(spec["stages"], start=1))
    if isinstance(spec, (list, tuple)):
        return f"first norm: {words(spec[0])}; others: {words(spec[1])}"
    if spec is None:
        return "no norm"
    if isinstance(spec, str):
        spec = {"name": spec}
    spec = dict(spec)
    name = spec.pop("name")
    if name == "consistent":
        return f"consistent ({words(spec['norm'])}) with {spec['branches']} branches"
    said = [_NAMES.get(name, f"{name.replace('_', ' ')} norm")]
    said += [_PHRASES.get(key, f"{key} {{}}").format(_shown(v)) for key, v in spec.items()]
    return ", ".join(said)


_NAMES = {
    "ilm_group": "ILM group norm",
    "ilm_instance": "ILM instance norm",
    "ilm_layer": "ILM layer norm",
    "conv": "convolutional norm",
    "learned_stats": "learned-statistics norm",
}
_PHRASES = {
    "groups": "{} groups",
    "key_group_size": "key groups of {}",
    "mean_activation": "mean by {}",
    "variance_activation": "variance by {}",
    "bias_mode": "bias {}",
    "modes": "{} modes",
    "kernel_sizes": "kernels {}",
    "weighted_variance": "weighted variance {}",
    "filters": "filters {}",
}


def _shown(value):
    if isinstance(value, (list, tuple)):
        return "-".join(_shown(one) for one in value)
    return {"True": "on", "False": "off", "None": "linear"}.get(str(value), str(value))


def sites_of(network):
    """The norm sites of a model, or of a list of `Site`s or channel counts.

    >>> import keras
    >>> from search.space import sites_of
    >>> sites_of([16, 32])
    [Site(channels=16, size=None, stage=0), Site(channels=32, size=None, stage=0)]
    """
    if hasattr(network, "layers"):
        # Surgery knows what a norm site is; so models that are searched are those that it takes.
        from kerasnorm.surgery import norm_sites

        return [Site(*one) for one in norm_sites(network)]
    sites = [site if isinstance(site, Site) else Site(site) for site in network]
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


def _argument(argument, value):
    """What an argument of a choice adds to a spec."""
    if argument == "kernel_sizes":
        return {} if value == "full" else {argument: [int(s) for s in value.split("-")]}
    if argument == "weighted_variance":
        return {argument: True} if value else {}
    if argument == "filters":
        # The paper's two stacks: a first layer's, and that of the others.
        return _LEARNED_STATS[value]
    return {argument: value}


_LEARNED_STATS = {
    "4-4-1": {"filters": [4, 4, 1], "kernel_sizes": [4, 3, 3]},
    "4-4-2-1": {"filters": [4, 4, 2, 1], "kernel_sizes": [4, 3, 2, 3]},
}


def _stacks(sites):
    """Kernel stacks for ConvNorm, as text: `"full"` factors each site's own image."""
    sides = [side for site in sites for side in (site.size or ())]
    factors = default_factors(math.gcd(*sides)) if sides else []
    # Where all images have one size, the whole stack is what "full" is already.
    ends = range(1, len(factors) + (len(set(sides)) > 1))
    partial = ["-".join(map(str, factors[:end])) for end in ends]
    whole = [str(math.prod(factors))] if len(factors) > 1 else []
    return ("full", *partial, *whole)


def _default_first(values, wanted):
    """Ascending values, the largest that is not above the wanted one brought to the front."""
    if not values:
        return ()
    first = max((v for v in values if v <= wanted), default=values[0])
    return _first(first, values)


def _first(value, values):
    return (value, *(v for v in values if v != value))


def _listed(name, values):
    """A choice of further numbers, if there are any to choose from."""
    if values is None:
        return []
    values = tuple(values)
    if values and values[0] == "range":
        return [Choice(name, values[1:], argument=name, range=True)]
    if not values or any(isinstance(v, bool) or not v > 0 for v in values):
        raise BadInput(f"{name}: {values!r}. Needed: positive numbers, the default first.")
    return [Choice(name, values, argument=name)]


def _words(what, values):
    """A list of words, from a list or from text with commas."""
    if isinstance(values, str):
        return [word.strip() for word in values.split(",") if word.strip()]
    return list(values)


def _name(word):
    """The registered name of a norm that the space can hold."""
    try:
        name = kerasnorm.registry.name_of(kerasnorm.registry.parse(word)[0])
    except (ValueError, TypeError):
        raise unknown("norm", word, kerasnorm.available()) from None
    if name == "consistent":
        raise BadInput(
            'norm "consistent" wraps another norm. Needed: that norm, with branches=(1, 2, ...).'
        )
    return name


def _each(spec, change):
    """A spec of several with each one changed."""
    if isinstance(spec, dict) and "stages" in spec:
        return {"stages": [change(one) for one in spec["stages"]]}
    return [change(one) for one in spec] if isinstance(spec, list) else change(spec)


def _consistent(spec, branches):
    return {"name": "consistent", "norm": spec, "branches": branches}
