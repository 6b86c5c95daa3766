"""The space: norm sites -> legal choices -> KerasTuner hyperparameters -> norm spec.

Nothing here builds a model. A `NormSpace` is a small tree of `Choice`s; `declare` writes it into a
`keras_tuner.HyperParameters` with conditional scopes, `spec_from` reads a point back.
"""

import functools
import json
import math
from typing import Any

from kerasnorm.registry import row_of, rows
from search.errors import BadInput, unknown
from search.names import PLACEMENTS, PLAIN
from search.space.choices import Choice, epochs_of, listed
from search.space.places import Place, legal_arguments, norm_name, sites_of
from search.space.wording import besides, words

__all__ = [
    "Choice",
    "NormSpace",
    "Place",
    "besides",
    "epochs_of",
    "legal_arguments",
    "norm_name",
    "sites_of",
    "words",
]


class NormSpace:
    """The norm specs that are legal in a network, as a space for KerasTuner.

    Args:
        sites: the norm sites of the network: `Place`s, plain channel counts, or a built functional
            or Sequential Keras model, whose norms are read.
        norms: which norms; None is all of the papers' and the plain ones.
        placements: where: `"all"` is every norm; `"first"` the first one only, with `rest`
            everywhere else; `"stages"` a norm of its own for each stage. Those that a network does
            not have (a single site, a single stage) are left out.
        rest: the norm of the other sites where only the first is placed; None is batch norm if it
            is among the norms, else the first plain one that is. Without one, the first site alone
            is not placed.
        learning_rates, batch_sizes: further choices, the default first. Learning rates may be a
            pair `("range", lowest, highest)`.
        frozen_epochs: numbers of epochs to choose from in which the norms of a trained model train
            alone, the default first.
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
        rest=None,
        learning_rates=None,
        batch_sizes=None,
        branches=None,
        frozen_epochs=0,
    ):
        self.sites = sites_of(sites)
        self.frozen_epochs = epochs_of(frozen_epochs)
        self.branches = (1,) if branches is None else tuple(branches)
        self.left_out = {}
        norms = _searched() if norms is None else _split("norms", norms)
        wanted = [norm_name(norm) for norm in norms]
        for norm in wanted:
            if (reason := self.refusal(norm)) is not None:
                self.left_out[norm] = reason
        self.norms = [norm for norm in dict.fromkeys(wanted) if norm not in self.left_out]
        if not self.norms:
            reasons = "; ".join(f"{norm}: {why}" for norm, why in self.left_out.items())
            raise BadInput(
                f"the space is empty ({reasons or 'no norms were given'}). Needed: at least one of "
                f"{', '.join(_searched())} that the network can take."
            )
        plain = [norm for norm in PLAIN if norm in self.norms]
        self.rest = norm_name(rest) if rest is not None else next(iter(plain), None)
        self.placements = self._legal_placements(_split("placements", placements))
        self.choices = [
            *self._declared_norms(),
            *listed("learning_rate", learning_rates),
            *listed("batch_size", batch_sizes),
            *self._frozen_epochs(),
            *listed("branches", branches and self.branches),
        ]

    def _frozen_epochs(self):
        """The choice of them, where there is one."""
        name, values = "frozen_epochs", self.frozen_epochs
        return [Choice(name, values, argument=name)] if len(values) > 1 else []

    # Legality.

    def refusal(self, norm):
        """Why the network does not take a norm at every site; None where it does.

        >>> from search.space import NormSpace, Place
        >>> NormSpace([Place(16, ())]).refusal("instance")
        'gives constants where a channel of an example has a single position'
        """
        refusal = row_of(norm).refusal
        return None if refusal is None else refusal(self.sites)

    def _legal_placements(self, placements):
        for word in placements:
            if word not in PLACEMENTS:
                raise unknown("placement", word, PLACEMENTS)
        stages = len({site.stage for site in self.sites})
        legal = [
            word
            for word in dict.fromkeys(placements)
            if word == "all"
            or (word == "first" and len(self.sites) > 1 and self.rest is not None)
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
        elif choice.values == (False, True) and isinstance(choice.default, bool):
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
        for argument in row_of(name).arguments:
            default = argument.choices(sites)[0]
            value = values.get(f"{prefix}{name}/{argument.name}", default)
            if value is not None:
                spec.update(argument.spec(value) if argument.spec else {argument.name: value})
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
            if name in ("learning_rate", "batch_size", "frozen_epochs")
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
        return self._one("", {"norm": norm_name(norm)}, self.sites)

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


def _searched():
    """The names of the norms that are searched if nothing is said."""
    return [row.name for row in rows() if row.searched]


def _split(what, values):
    """A list of words, from a list or from text with commas."""
    if isinstance(values, str):
        return [word.strip() for word in values.split(",") if word.strip()]
    return list(values)


def _each(spec, change):
    """A spec of several with each one changed."""
    if isinstance(spec, dict) and "stages" in spec:
        return {"stages": [change(one) for one in spec["stages"]]}
    return [change(one) for one in spec] if isinstance(spec, list) else change(spec)


def _consistent(spec, branches):
    return {"name": "consistent", "norm": spec, "branches": branches}
