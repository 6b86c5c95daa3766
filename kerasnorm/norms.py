"""The table of norms: a row holds everything about a norm that is not in its layer.

`kerasnorm.get`, surgery, the search, the benchmarks, the shared tests and the README read it. Rows
name their layers as text, and this file can be loaded without Keras. So the search and the
benchmarks can load it to check a command before they choose a backend.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class NormArgument:
    """An argument that a search may choose.

    Args:
        name: the name of the constructor's argument.
        values: the values to choose from, the default first; or a function that returns them for a
            list of sites, each with `channels` and a spatial `size` (None if unknown). A single
            value leaves nothing to choose. A single None leaves the argument out.
        phrase: the choice as text for a reader, with `{}` for the value.
        spec: a function of a value that returns what to add to a norm spec. None adds the value.

    Example:
        >>> import kerasnorm
        >>> kerasnorm.NormArgument("modes", (2, 3, 4), "{} modes").choices([])
        (2, 3, 4)
    """

    name: str
    values: tuple | Callable[[list], tuple]
    phrase: str = ""
    spec: Callable[[Any], dict] | None = None

    def choices(self, sites):
        """The values that are legal at all these sites, the default first."""
        return tuple(self.values(sites) if callable(self.values) else self.values)


@dataclasses.dataclass(frozen=True)
class NormRow:
    """A norm: its layer, its names, and the facts for searches, benchmarks, tests and readers.

    Give a row of your own to `kerasnorm.register`.

    Args:
        layer: a Keras layer class, or its full name as text.
        name: a word, such as `"my_norm"`. Case, `_`, `-` and a last "norm" do not matter where it
            is looked up. The class's own name is understood too, unless it is taken.
        aliases: other names for it.
        words: the name in texts for a reader; by default, `name` followed by "norm".
        summary: what it does, in half a sentence.
        reference: the paper.
        arguments: what a search may choose, `NormArgument`s.
        refusal: a function of a list of sites: why a network with these sites cannot take it
            everywhere, or None.
        searched: whether a search tries it by default.
        plain: whether a search compares its winners with it by default.
        auto: arguments that models, surgery and searches give as "auto" where a spec does not.
        contestants: what is benchmarked: arguments by label. Empty: the layer by its name, with
            its defaults.
        inference_reads: how often inference reads its inputs: 2 if it takes moments, else 1.
        allowance: what the limit of its training step is multiplied by.
        spatial_statistics: whether it works with statistics of every position.
        examples: arguments that are legal for `channels` channels, by a word for them. The shared
            tests run with each.
        scope: whose statistics training uses, `"example"` or `"batch"`.
        statistics: `"data"`, or `"learned"` where a network predicts them.
        ranks: of the inputs that it takes.
        channels: how many `examples` are for.
        link: where the paper can be read.
        formulas: what it computes, in LaTeX: n is an example, p a position, c a channel.
        flow: from the moments of each channel of each example to its scale and shift, in steps.
        when: where to use it and where not.

    Example:
        >>> import kerasnorm
        >>> class MyNorm(kerasnorm.GroupNorm):
        ...     pass
        >>> row = kerasnorm.NormRow(
        ...     MyNorm,
        ...     "my_norm",
        ...     arguments=(kerasnorm.NormArgument("groups", (4, 2), "{} groups"),),
        ...     auto=("groups",),
        ... )
        >>> row.words
        'my norm'
    """

    layer: type | str
    name: str
    aliases: tuple[str, ...] = ()
    words: str = ""
    summary: str = ""
    reference: str = ""
    arguments: tuple[NormArgument, ...] = ()
    refusal: Callable[[list], str | None] | None = None
    searched: bool = True
    plain: bool = False
    auto: tuple[str, ...] = ()
    contestants: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    inference_reads: int = 2
    allowance: float = 1.0
    spatial_statistics: bool = False
    examples: Mapping[str, dict] = dataclasses.field(default_factory=lambda: {"default": {}})
    scope: str = "example"
    statistics: str = "data"
    ranks: tuple[int, ...] = (2, 3, 4, 5)
    channels: int = 8
    link: str = ""
    formulas: tuple[str, ...] = ()
    flow: tuple[str, ...] = ()
    when: str = ""

    def __post_init__(self):
        if not self.words:
            words = self.name.replace("_", " ").removesuffix("norm").strip()
            object.__setattr__(self, "words", f"{words} norm")

    @property
    def class_name(self):
        """The name of the layer's class."""
        return self.layer.rpartition(".")[2] if isinstance(self.layer, str) else self.layer.__name__

    @functools.cached_property
    def layer_class(self):
        """The layer's class."""
        if not isinstance(self.layer, str):
            return self.layer
        module, _, name = self.layer.rpartition(".")
        return getattr(importlib.import_module(module), name)

    @property
    def keys(self):
        """What its names are looked up by; the class's own name is last."""
        return tuple(key_of(word) for word in (self.name, *self.aliases, self.class_name))

    @property
    def labels(self):
        """What is benchmarked: arguments by label."""
        return dict(self.contestants) or {self.class_name: {}}


def key_of(word):
    """A norm's name without what does not matter in it: case, `_`, `-`, and a last "norm".

    >>> from kerasnorm.norms import key_of
    >>> key_of("ILMGroupNorm") == key_of("ilm_group")
    True
    """
    letters = "".join(letter for letter in word.lower() if letter.isalnum())
    # Again and again: "batch_renorm" ends in it, and "batch_renorm_norm" is the same norm.
    while letters.endswith("norm"):
        letters = letters.removesuffix("norm")
    return letters


# What rows have in common.

MOST_GROUPS, MOST_KEYS = 64, 64
# Table 7 of the ILM paper: whatever else was tried for both did not converge.
ACTIVATIONS = ("tanh", "sigmoid", "relu")


def _divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


def _common(sites):
    return math.gcd(*(site.channels for site in sites))


def _single(site):
    """Whether each example is known to have a single position at a site."""
    return site.size is not None and all(side == 1 for side in site.size)


def first(value, values):
    """The values with one of them brought to the front."""
    return (value, *(v for v in values if v != value))


def largest_first(values, most):
    """Ascending values, the largest that is at most `most` brought to the front."""
    if not values:
        return ()
    return first(max((v for v in values if v <= most), default=values[0]), values)


def group_counts(sites):
    """Numbers of groups.

    One group is layer norm, one per channel at every site is instance norm, and one per channel
    where there is a single position gives constants.
    """
    common = _common(sites)
    instance = {site.channels for site in sites} == {common}
    constant = {site.channels for site in sites if _single(site)}
    counts = [
        d
        for d in _divisors(common)
        if 1 < d <= MOST_GROUPS and not (instance and d == common) and d not in constant
    ]
    return largest_first(counts, 32) or (None,)


def key_group_sizes(sites):
    """Sizes of key groups."""
    return largest_first([d for d in _divisors(_common(sites)) if d <= MOST_KEYS], 16)


# A value that is standardized by itself is zero, whatever it was.


def groups_are_single(sites):
    """Refuse a site with one position where no number of groups puts channels together."""
    if group_counts(sites) == (None,) and any(
        # As many as "auto" takes.
        _single(site) and max(d for d in _divisors(site.channels) if d <= 32) == site.channels
        for site in sites
    ):
        return "gives constants where a group of channels has a single value"
    return None


def channels_are_single(sites):
    """Refuse a site with one position."""
    if any(map(_single, sites)):
        return "gives constants where a channel of an example has a single position"
    return None


def channels_keep_signs(sites):
    """Refuse a site with one position, where the root mean square is the value itself."""
    if any(map(_single, sites)):
        return "gives signs where a channel of an example has a single position"
    return None


def examples_are_single(sites):
    """Refuse a site with one position and one channel."""
    if any(_single(site) and site.channels == 1 for site in sites):
        return "gives constants where an example has a single value"
    return None


def no_fixed_images(sites):
    """Refuse a site that has no images of a fixed size."""
    if any(site.size is None or len(site.size) != 2 or None in site.size for site in sites):
        return "needs images of a fixed height and width at every norm"
    return None


def kernel_stacks(sites):
    """Kernel stacks for ConvNorm, as text: `"full"` factors each site's own image."""
    from kerasnorm.layers.conv import default_factors

    sides = [side for site in sites for side in (site.size or ())]
    factors = default_factors(math.gcd(*sides)) if sides else []
    # Where all images have one size, the whole stack is what "full" is already.
    ends = range(1, len(factors) + (len(set(sides)) > 1))
    partial = ["-".join(map(str, factors[:end])) for end in ends]
    whole = [str(math.prod(factors))] if len(factors) > 1 else []
    return ("full", *partial, *whole)


def _stack_spec(value):
    return {} if value == "full" else {"kernel_sizes": [int(size) for size in value.split("-")]}


GROUPS = NormArgument("groups", group_counts, "{} groups")
KEYS = NormArgument("key_group_size", key_group_sizes, "key groups of {}")
MODES = NormArgument("modes", (2, 3, 4, 6), "{} modes")


def _activations(mean, variance):
    return (
        NormArgument("mean_activation", first(mean, ACTIVATIONS), "mean by {}"),
        NormArgument("variance_activation", first(variance, ACTIVATIONS), "variance by {}"),
    )


ILM_ARGUMENTS = (KEYS, *_activations("tanh", "sigmoid"))
ILM_EXAMPLES: dict[str, dict] = {
    "small": {"key_group_size": 2},
    "wide": {"key_group_size": 1, "reduction": 2},
    "one_key": {"key_group_size": 8},
    "auto": {"key_group_size": "auto"},
    "linear": {"key_group_size": 2, "mean_activation": None, "variance_activation": "linear"},
    "relu": {"key_group_size": 4, "reduction": 1, "mean_activation": "relu"},
    "around": {"key_group_size": 2, "reduction": 2, "variance_around": "norm"},
    "bare": {"key_group_size": 2, "center": False, "scale": False},
}
BARE = {"center": False, "scale": False}

ILM_PAPER = "Jia, Chen and Chen, *Instance-Level Meta Normalization*, 2019"
ASSOCIATE_PAPER = "Anonymous authors, *Associate Normalization*, submitted to ICLR 2019"
ASSOCIATE_LINK = "https://openreview.net/forum?id=HkNN7nR5Ym"
ILM_LINK = "https://arxiv.org/abs/1904.03516"
MODE_LINK = "https://arxiv.org/abs/1810.05466"
CONV_LINK = "https://arxiv.org/abs/2102.09685"
MODE_PAPER = "Deecke, Murray and Bilen, *Mode Normalization*, 2019"
CONV_PAPER = "Esposito and Ganaba, *Convolutional Normalization*"
CONSISTENT_PAPER = (
    "Zhou, Ma, Li, Zhang and Luo, *Towards Improving Generalization of Deep Networks via "
    "Consistent Normalization*, 2019"
)

AFFINE = r"y = \gamma_c\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta_c"
ILM_FORMULAS = (
    r"E_\mu = \mathrm{relu}(W_1 \mu)",
    r"E_\sigma = \mathrm{relu}(W_1 \sigma^2)",
    r"\hat\gamma = \mathrm{sigmoid}(W_3 E_\sigma) + \gamma",
    r"\hat\beta = \tanh(W_2 E_\mu) + \beta",
)


def _ilm_formulas(standardized):
    return (*ILM_FORMULAS, rf"y = \hat\gamma\,\frac{{x - {standardized}}} + \hat\beta")


def _ilm_flow(pooled):
    return (
        pooled,
        "pool over key groups",
        "encoder, then a decoder for each of gamma and beta",
        "add the learned gamma and beta",
    )


ROWS = (
    NormRow(
        "kerasnorm.layers.batch.BatchNorm",
        "batch",
        aliases=("bn",),
        summary="each channel by its mean and variance over the batch",
        reference="Ioffe and Szegedy, *Batch Normalization*, 2015",
        plain=True,
        inference_reads=1,
        examples={
            "default": {},
            "momentum": {"momentum": 0.7, "epsilon": 1e-3},
            "no_center": {"center": False},
            "no_scale": {"scale": False},
        },
        scope="batch",
        link="https://arxiv.org/abs/1502.03167",
        formulas=(
            r"\mu_c = \frac{1}{NP} \sum_{n,p} x_{npc}",
            r"\sigma_c^2 = \frac{1}{NP} \sum_{n,p} (x_{npc} - \mu_c)^2",
            AFFINE,
        ),
        flow=(
            "pool over the examples of the batch",
            "standardize each channel",
        ),
        when=(
            "The usual choice for images where a batch has many examples that are alike. "
            "Its output depends on the rest of the batch in training, and on moving "
            "averages at inference. So it is a poor choice for a few examples per batch, "
            "and where the data change after training."
        ),
    ),
    NormRow(
        "kerasnorm.layers.group.GroupNorm",
        "group",
        aliases=("gn",),
        summary="each example by the moments of groups of its channels",
        reference="Wu and He, *Group Normalization*, 2018",
        arguments=(GROUPS,),
        refusal=groups_are_single,
        plain=True,
        auto=("groups",),
        contestants={"GroupNorm(32)": {"groups": 32}},
        examples={
            "groups4": {"groups": 4},
            "groups1": {"groups": 1},
            "per_channel": {"groups": -1},
            "auto": {"groups": "auto"},
            "no_center": {"groups": 2, "center": False},
            "no_scale": {"groups": 2, "scale": False},
        },
        link="https://arxiv.org/abs/1803.08494",
        formulas=(
            r"\mu_{ng},\ \sigma_{ng}^2\ \text{over the positions and channels of a group}",
            AFFINE,
        ),
        flow=(
            "pool over the channels of each group",
            "standardize each group",
        ),
        when=(
            "For small batches, detection, segmentation and video: it looks at one example "
            "at a time and does the same in training and at inference. The number of groups "
            "must divide the channels."
        ),
    ),
    NormRow(
        "kerasnorm.layers.group.InstanceNorm",
        "instance",
        aliases=("in",),
        summary="each channel of each example by its own moments",
        reference="Ulyanov, Vedaldi and Lempitsky, *Instance Normalization*, 2016",
        refusal=channels_are_single,
        plain=True,
        examples={"default": {}, "bare": BARE},
        link="https://arxiv.org/abs/1607.08022",
        formulas=(
            r"\mu_{nc} = \frac{1}{P} \sum_p x_{npc}",
            r"\sigma_{nc}^2 = \frac{1}{P} \sum_p (x_{npc} - \mu_{nc})^2",
            AFFINE,
        ),
        flow=("standardize each channel of each example",),
        when=(
            "For style transfer and image-to-image networks, where the contrast of a single "
            "image should not matter. It removes what the mean of a channel says, which a "
            "classifier often needs."
        ),
    ),
    NormRow(
        "kerasnorm.layers.group.LayerNorm",
        "layer",
        aliases=("ln",),
        summary="each example by the moments of all of its channels and positions",
        reference="Ba, Kiros and Hinton, *Layer Normalization*, 2016",
        refusal=examples_are_single,
        plain=True,
        examples={"default": {}, "bare": BARE},
        link="https://arxiv.org/abs/1607.06450",
        formulas=(
            r"\mu_n,\ \sigma_n^2\ \text{over all positions and channels of example}\ n",
            AFFINE,
        ),
        flow=(
            "pool over all channels of the example",
            "standardize the example",
        ),
        when=(
            "For one example at a time, and for layers with few channels, where groups would be "
            "too small. `keras.layers.LayerNormalization` takes the moments of each position by "
            "itself. This layer takes those of all positions, as the papers' networks do."
        ),
    ),
    NormRow(
        "kerasnorm.layers.ilm.ILMGroupNorm",
        "ilm_group",
        aliases=("ilm", "ilm_gn"),
        words="ILM group norm",
        summary="group norm whose gamma and beta are also predicted from the example's statistics",
        reference=ILM_PAPER,
        arguments=(GROUPS, *ILM_ARGUMENTS),
        refusal=groups_are_single,
        auto=("groups", "key_group_size"),
        contestants={"ILMGroupNorm(32)": {"groups": 32, "key_group_size": 16}},
        examples={
            **{key: {"groups": 4, **arguments} for key, arguments in ILM_EXAMPLES.items()},
            "coarse_groups": {"groups": 2, "key_group_size": 1},
        },
        link=ILM_LINK,
        formulas=_ilm_formulas(r"\mu_{ng}}{\sqrt{\sigma_{ng}^2 + \epsilon}"),
        flow=_ilm_flow("standardize by groups"),
        when=(
            "Where group norm is used and the example itself should say how it is rescaled. It "
            "adds a small auto-encoder, whose cost does not grow with the image. `convert` can fit "
            "it to a trained batch norm."
        ),
    ),
    NormRow(
        "kerasnorm.layers.ilm.ILMInstanceNorm",
        "ilm_instance",
        aliases=("ilm_in",),
        words="ILM instance norm",
        summary="instance norm whose gamma and beta are also predicted from the statistics",
        reference=ILM_PAPER,
        arguments=ILM_ARGUMENTS,
        refusal=channels_are_single,
        auto=("key_group_size",),
        contestants={"ILMInstanceNorm": {"key_group_size": 16}},
        examples=ILM_EXAMPLES,
        link=ILM_LINK,
        formulas=_ilm_formulas(r"\mu_{nc}}{\sqrt{\sigma_{nc}^2 + \epsilon}"),
        flow=_ilm_flow("standardize each channel"),
        when=(
            "Where instance norm is used and what it removes should come back in part: "
            "gamma and beta are predicted from the moments that the standardization takes "
            "away."
        ),
    ),
    NormRow(
        "kerasnorm.layers.ilm.ILMLayerNorm",
        "ilm_layer",
        aliases=("ilm_ln",),
        words="ILM layer norm",
        summary="layer norm whose gamma and beta are also predicted from the statistics",
        reference=ILM_PAPER,
        arguments=ILM_ARGUMENTS,
        refusal=examples_are_single,
        auto=("key_group_size",),
        contestants={"ILMLayerNorm": {"key_group_size": 16}},
        examples=ILM_EXAMPLES,
        link=ILM_LINK,
        formulas=_ilm_formulas(r"\mu_n}{\sqrt{\sigma_n^2 + \epsilon}"),
        flow=_ilm_flow("standardize the example"),
        when=(
            "For one example at a time with a prediction on top of layer norm. Begin with it where "
            "`convert` should take the place of batch norm in a trained network."
        ),
    ),
    NormRow(
        "kerasnorm.layers.associate.AssociateNorm",
        "associate",
        aliases=("assoc",),
        summary="group norm whose scale and shift are predicted from its own group statistics",
        reference=ASSOCIATE_PAPER,
        link=ASSOCIATE_LINK,
        arguments=(
            GROUPS,
            *_activations("sigmoid", "tanh"),
            NormArgument("bias_mode", ("after", "before", "multiply", "none"), "bias {}"),
        ),
        refusal=groups_are_single,
        auto=("groups",),
        contestants={"AssociateNorm(32)": {"groups": 32}},
        examples={
            **{
                f"{features}_{mode}": {"groups": 4, "key_features": features, "bias_mode": mode}
                for features in ("group", "instance")
                for mode in ("after", "before", "multiply", "none")
            },
            **{
                f"bare_{mode}": {"groups": 4, "bias_mode": mode, **BARE}
                for mode in ("after", "before", "multiply")
            },
            "per_channel": {"groups": -1, "reduction": 2},
            "auto": {"groups": "auto"},
            "activations": {"groups": 2, "mean_activation": "tanh", "variance_activation": None},
        },
        formulas=(
            r"E_\mu = \mathrm{relu}(W_1 \mu)",
            r"E_\sigma = \mathrm{relu}(W_1 \sigma^2)",
            r"\hat\gamma = \mathrm{sigmoid}(W_2 E_\mu) + \gamma",
            r"\hat\beta = \tanh(W_3 E_\sigma) + \beta",
            r"y = \hat\gamma\,\frac{x - \mu_{ng}}{\sqrt{\sigma_{ng}^2 + \epsilon}} + \hat\beta",
        ),
        flow=(
            "pool over the channels of each group",
            "encoder, then a decoder for each of gamma and beta",
            "add the learned gamma and beta",
        ),
        when=(
            "Where group norm is used and the example should say how it is rescaled. Unlike "
            "ILM it predicts gamma from the means and beta from the variances, and uses the "
            "groups of the standardization as keys."
        ),
    ),
    NormRow(
        "kerasnorm.layers.mode.ModeNorm",
        "mode",
        aliases=("mn",),
        summary="batch norm with several modes; a gate assigns the examples to them",
        reference=MODE_PAPER,
        arguments=(MODES,),
        contestants={"ModeNorm(2)": {"modes": 2}, "ModeNorm(16)": {"modes": 16}},
        examples={
            "modes2": {"modes": 2},
            "modes1": {"modes": 1},
            "modes5": {"modes": 5, "momentum": 0.6},
            "bare": {"modes": 3, **BARE},
        },
        scope="batch",
        link=MODE_LINK,
        formulas=(
            r"g_{nk} = \mathrm{softmax}_k(\bar x_n W + b)",
            r"\mu_k = \frac{\sum_n g_{nk} \langle x_n \rangle}{\sum_n g_{nk}}",
            r"\sigma_k^2\ \text{likewise, around}\ \mu_k",
            r"y_n = \gamma \sum_k g_{nk}\,\frac{x_n - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta",
        ),
        flow=(
            "gate: softmax over the modes of each example",
            "pool over the batch, once for each mode",
            "mix the modes by the gate",
        ),
        when=(
            "Where batches mix data of several kinds, such as domains or data sets, and "
            "batch norm would average over them. As batch norm it needs large batches: each "
            "mode gets a part of one."
        ),
    ),
    NormRow(
        "kerasnorm.layers.mode.ModeGroupNorm",
        "mode_group",
        aliases=("mgn",),
        summary="layer norm with several modes; a gate assigns the channels to them",
        reference=MODE_PAPER,
        arguments=(MODES,),
        refusal=examples_are_single,
        contestants={"ModeGroupNorm(2)": {"modes": 2}},
        examples={
            "modes2": {"modes": 2},
            "modes1": {"modes": 1},
            "modes5": {"modes": 5},
            "bare": {"modes": 3, **BARE},
        },
        link=MODE_LINK,
        formulas=(
            r"g_{ck} = \mathrm{softmax}_k(\bar x_c w_k + b_k)",
            r"\mu_k = \frac{\sum_c g_{ck} \bar x_c}{\sum_c g_{ck}}",
            r"\sigma_k^2\ \text{likewise}",
            r"y = \frac{\gamma}{K} \sum_k \frac{x - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta",
        ),
        flow=(
            "gate: softmax over the modes of each channel",
            "pool over the channels, once for each mode",
            "average the modes",
        ),
        when=(
            "For one example at a time, where which channels belong together should be "
            "learned: group norm fixes its groups by their order."
        ),
    ),
    NormRow(
        "kerasnorm.layers.conv.ConvNorm",
        "conv",
        aliases=("dwck",),
        words="convolutional norm",
        summary="batch norm whose mean has learned spatial weights, a stack of depthwise kernels",
        reference=f"{CONV_PAPER}, section 3",
        arguments=(
            NormArgument("kernel_sizes", kernel_stacks, "kernels {}", _stack_spec),
            NormArgument(
                "weighted_variance",
                (False, True),
                "weighted variance {}",
                lambda value: {"weighted_variance": True} if value else {},
            ),
        ),
        refusal=no_fixed_images,
        inference_reads=1,
        allowance=1.3,
        spatial_statistics=True,
        examples={
            "default": {},
            "weighted": {"weighted_variance": True},
            "incomplete": {"kernel_sizes": ((2, 3),)},
            "incomplete_weighted": {"kernel_sizes": ((2, 1),), "weighted_variance": True},
            "coarse_first": {"kernel_sizes": ((1, 3), (4, 2)), "momentum": 0.6},
            "bare": BARE,
        },
        scope="batch",
        ranks=(4,),
        link=CONV_LINK,
        formulas=(
            r"\mu_c = \frac{1}{N} \sum_{n,p} w_{pc}\,x_{npc}",
            r"w_{pc} \ge 0,\ \sum_p w_{pc} = 1",
            r"\sigma_c^2\ \text{over the batch, around the plain mean}",
            AFFINE,
        ),
        flow=(
            "weigh the positions by a stack of kernels",
            "pool over the examples of the batch",
            "standardize each channel",
        ),
        when=(
            "For images of one fixed size, where the middle of a picture should count "
            "differently from its border. It needs large batches as batch norm does."
        ),
    ),
    NormRow(
        "kerasnorm.layers.learned_stats.LearnedStatsNorm",
        "learned_stats",
        words="learned-statistics norm",
        summary="mean and deviation predicted by small 1-D convolutions along the channels",
        reference=f"{CONV_PAPER}, section 5",
        arguments=(
            NormArgument(
                "filters",
                ("4-4-1", "4-4-2-1"),
                "filters {}",
                # The paper's two stacks: a first layer's, and that of the others.
                {
                    "4-4-1": {"filters": [4, 4, 1], "kernel_sizes": [4, 3, 3]},
                    "4-4-2-1": {"filters": [4, 4, 2, 1], "kernel_sizes": [4, 3, 2, 3]},
                }.__getitem__,
            ),
        ),
        allowance=1.3,
        examples={
            "default": {},
            "deep": {"filters": (4, 4, 2, 1), "kernel_sizes": (4, 3, 2, 3)},
            "affine": {"center": True, "scale": True, "filters": (1,), "kernel_sizes": (2,)},
        },
        statistics="learned",
        link=CONV_LINK,
        formulas=(
            r"m_n = \mathrm{average}(\mathrm{stack}(\bar x_n))",
            r"s_n = \mathrm{softplus}(\mathrm{average}(\mathrm{stack}(\bar x_n))) + \epsilon",
            r"y = \frac{x - m_n}{s_n}",
        ),
        flow=(
            "two small stacks of 1-D convolutions along the channels",
            "a mean and a deviation for each example",
        ),
        when=(
            "Where a norm should have fewer parameters than batch norm. Its statistics are "
            "predicted, so nothing makes its outputs standard."
        ),
    ),
    NormRow(
        "kerasnorm.layers.switchable.SwitchableNorm",
        "switchable",
        aliases=("sn",),
        summary="learns shares of instance, layer and batch norm",
        reference="Luo, Ren, Peng, Zhang and Li, *Differentiable Learning-to-Normalize via "
        "Switchable Normalization*, 2018",
        examples={"default": {}, "momentum": {"momentum": 0.6}, "bare": BARE},
        scope="batch",
        link="https://arxiv.org/abs/1806.10779",
        formulas=(
            r"w = \mathrm{softmax}(\lambda)",
            r"\mu = \sum_k w_k \mu_k",
            r"w' = \mathrm{softmax}(\lambda')",
            r"\sigma^2 = \sum_k w'_k \sigma_k^2",
            AFFINE,
        ),
        flow=(
            "moments of the instance, the layer and the batch",
            "mix them by learned shares",
            "standardize",
        ),
        when=(
            "Where it is not known which of the three a layer should be: each layer learns "
            "its shares. A part of it is batch norm, so small batches and changed data "
            "concern it too."
        ),
    ),
    NormRow(
        "kerasnorm.layers.batch_instance.BatchInstanceNorm",
        "batch_instance",
        aliases=("bin",),
        words="batch-instance norm",
        summary="between batch and instance norm; a learned gate of each channel chooses",
        reference="Nam and Kim, *Batch-Instance Normalization for Adaptively Style-Invariant "
        "Neural Networks*, 2018",
        examples={"default": {}, "momentum": {"momentum": 0.6}, "bare": BARE},
        scope="batch",
        link="https://arxiv.org/abs/1805.07925",
        formulas=(
            r"\hat x_B,\ \hat x_I:\ x\ \text{standardized by the batch, and by the instance}",
            r"y = \gamma\,(\rho\,\hat x_B + (1 - \rho)\,\hat x_I) + \beta",
            r"0 \le \rho \le 1",
        ),
        flow=(
            "standardize by the batch, and by the instance",
            "mix the two by a learned gate of each channel",
        ),
        when=(
            "For classifiers and style transfer where some channels carry style that should "
            "go and others carry what the task needs."
        ),
    ),
    NormRow(
        "kerasnorm.layers.batch_renorm.BatchRenorm",
        "batch_renorm",
        aliases=("brn",),
        summary="batch norm that trains with nearly the statistics that it infers with",
        reference="Ioffe, *Batch Renormalization*, 2017",
        inference_reads=1,
        examples={
            "default": {},
            "unlimited": {"r_max": None, "d_max": None},
            "limited": {"r_max": 1.2, "d_max": 0.3, "r_min": 0.5, "momentum": 0.6},
            "bare": {"renorm_momentum": 0.7, **BARE},
        },
        scope="batch",
        link="https://arxiv.org/abs/1702.03275",
        formulas=(
            r"r = \mathrm{clip}\Bigl(\frac{\sigma_B}{\sigma},\ r_{\min},\ r_{\max}\Bigr)",
            r"d = \mathrm{clip}\Bigl(\frac{\mu_B - \mu}{\sigma},\ -d_{\max},\ d_{\max}\Bigr)",
            r"y = \gamma\,\Bigl(\frac{x - \mu_B}{\sigma_B}\,r + d\Bigr) + \beta",
        ),
        flow=(
            "pool over the examples of the batch",
            "correct towards the moving averages, within limits",
            "standardize each channel",
        ),
        when=(
            "For batch norm with small batches, or batches of examples that depend on each "
            "other. Begin with no correction and let the limits grow by a schedule, as the "
            "paper does."
        ),
    ),
    NormRow(
        "kerasnorm.layers.filter_response.FilterResponseNorm",
        "filter_response",
        aliases=("frn",),
        summary="each channel of each example by its root mean square",
        reference="Singh and Krishnan, *Filter Response Normalization Layer*, 2020",
        arguments=(
            NormArgument(
                "learned_epsilon",
                (False, True),
                "learned epsilon {}",
                lambda value: {"learned_epsilon": True} if value else {},
            ),
        ),
        refusal=channels_keep_signs,
        examples={"default": {}, "learned": {"learned_epsilon": True}, "bare": BARE},
        link="https://arxiv.org/abs/1911.09737",
        formulas=(
            r"\nu_{nc}^2 = \frac{1}{P} \sum_p x_{npc}^2",
            r"y = \gamma_c\,\frac{x}{\sqrt{\nu_{nc}^2 + |\epsilon|}} + \beta_c",
        ),
        flow=(
            "mean square: variance + mean squared",
            "divide each channel of each example by its root",
        ),
        when=(
            "For one example at a time, with `ThresholdedLinearUnit` in place of relu after "
            "it, since its outputs are not centered."
        ),
    ),
    # Keras's own. A search tries them if it is asked to.
    NormRow("keras.layers.BatchNormalization", "keras_batch", searched=False),
    NormRow("keras.layers.GroupNormalization", "keras_group", searched=False, auto=("groups",)),
    NormRow("keras.layers.LayerNormalization", "keras_layer", searched=False),
    NormRow("keras.layers.RMSNormalization", "keras_rms", searched=False),
    NormRow("keras.layers.UnitNormalization", "keras_unit", searched=False),
    # Copies of one of the others.
    NormRow(
        "kerasnorm.consistent.norm.ConsistentNorm",
        "consistent",
        aliases=("cn",),
        summary="copies of a norm, one per transformation of the data; `branch` chooses",
        reference=CONSISTENT_PAPER,
        link="https://arxiv.org/abs/1909.00182",
        searched=False,
    ),
)


def linked(row):
    """The reference, whose title leads to the paper."""
    if not row.link:
        return row.reference
    before, title, after = row.reference.split("*")
    return f"{before}[*{title}*]({row.link}){after}"


def markdown(rows=ROWS):
    """The rows that say what a norm does, as the table of the README."""
    lines = ["| layer | spec | what it does | paper |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{row.class_name}` | `{row.name}` | {row.summary} | {linked(row)} |"
        for row in rows
        if row.summary
    ]
    return "\n".join(lines)
