"""The hypermodel: norm spec -> compiled model."""

import inspect

import keras
import keras_tuner

import kerasnorm
from kerasnorm import models
from search.errors import BadInput, unknown
from search.space import NormSpace, Site


class NormHyperModel(keras_tuner.HyperModel):
    """A network whose norms are searched, for `NormTuner` and for any tuner of KerasTuner's.

    Args:
        network: what is searched:
            a function of a norm spec that returns a Keras model;
            the name of an architecture in `kerasnorm.models` (with `input_shape` and `classes`),
            which is planned, not built, to know its norm sites;
            a Keras model, functional or Sequential, in which the norms are replaced. Its weights
            are kept: every trial starts from them.
        space: a `NormSpace`; None makes one from the network's norm sites, for which a function is
            called once.
        compile: `compile(model, values)`, which compiles a model that is not; None takes Adam and
            cross-entropy over integer labels. A learning rate that is searched is set afterwards.
        learning_rate: of that Adam, where it is not searched.
        transforms: for Consistent Normalization, the identity (None) first; see
            `kerasnorm.ConsistentModel`. Searched is then how many of them, from the first on, have
            branches of their own in training: with 1 the norm is the plain one.
        jit_compile: as in `keras.Model.compile`, where this class compiles.
        input_shape, classes: of an architecture given by its name.
        arguments: further ones of that architecture.
        **options: of `NormSpace`, where `space` is None.

    Example:
        >>> import keras
        >>> from kerasnorm.sites import norm_layer
        >>> from search import NormHyperModel
        >>> def build(norm):
        ...     layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(16, 3)]
        ...     layers += [norm_layer(norm), keras.layers.GlobalAveragePooling2D()]
        ...     return keras.Sequential([*layers, keras.layers.Dense(10)])
        >>> hypermodel = NormHyperModel(build, norms=["batch", "mode"])
        >>> print(hypermodel.space)
        hyperparameter  values       when
        --------------  -----------  -----------
        norm            batch, mode
        mode/modes      2, 3, 4, 6   norm = mode
        5 points
    """

    def __init__(
        self,
        network,
        space=None,
        compile=None,
        learning_rate=1e-3,
        transforms=None,
        jit_compile="auto",
        input_shape=None,
        classes=None,
        arguments=None,
        **options,
    ):
        super().__init__(name="norms")
        self.network = network
        self.compile = compile
        self.learning_rate = learning_rate
        self.transforms = transforms
        self.jit_compile = jit_compile
        # KerasTuner's own tuners forget both before each trial.
        self._policy = keras.config.dtype_policy()
        self._distribution = keras.distribution.distribution()
        self._shapes = (input_shape, classes)
        self._arguments = arguments or {}
        self._builder = self._builder_of(network)
        if space is not None and options:
            raise BadInput(f"space and {', '.join(options)} were given. Needed: one or the other.")
        if transforms and space is None:
            options.setdefault("branches", range(1, len(transforms) + 1))
        self.space = self._own_space(options) if space is None else space
        if max(self.space.branches) > len(transforms or [None]):
            raise BadInput(
                f"up to {max(self.space.branches)} branches are searched, and there are "
                f"{len(transforms or [])} transforms. Needed: transforms=[None, ...], one for "
                "each branch."
            )

    def declare_hyperparameters(self, hp):
        """Declare the whole space; nothing is built."""
        self.space.declare(hp)

    def build(self, hp):
        """The compiled model of a point."""
        keras.config.set_dtype_policy(self._policy)
        if self._distribution is not None:
            keras.distribution.set_distribution(self._distribution)
        return self.model_of(self.space.spec_from(hp), hp.values)

    def model_of(self, spec, values):
        """The compiled model of a norm spec and of the further hyperparameters."""
        model = self._builder(spec)
        if not isinstance(model, keras.Model):
            raise BadInput(f"the network's function returned {model!r}. Needed: a Keras model.")
        branches = values.get("branches", 1)
        if branches > 1:
            plain, model = model, kerasnorm.ConsistentModel(model, self.transforms[:branches])
            if plain.compiled:
                model.compile_from_config(plain.get_compile_config())
        if not model.compiled:
            (self.compile or self._compile)(model, values)
        if values.get("learning_rate") is not None:
            model.optimizer.learning_rate = values["learning_rate"]
        return model

    def fit(self, hp, model, *args, **kwargs):
        """Train; a searched batch size counts for arrays."""
        size = hp.values.get("batch_size")
        if size is not None and hasattr(args[0] if args else kwargs.get("x"), "shape"):
            kwargs["batch_size"] = size
        return model.fit(*args, **kwargs)

    def _compile(self, model, values):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not _has_softmax(model))
        model.compile(
            keras.optimizers.Adam(self.learning_rate),
            loss,
            metrics=["accuracy"],
            jit_compile=self.jit_compile,
        )

    def _builder_of(self, network):
        """A function of a norm spec."""
        if isinstance(network, str):
            function = _architecture(network)
            if None in self._shapes:
                raise BadInput(f"architecture {network!r} needs input_shape and classes.")
            return lambda spec: function(*self._shapes, norm=spec, **self._arguments)
        if isinstance(network, keras.Model):
            return lambda spec: kerasnorm.replace_norms(network, spec)
        if callable(network):
            return network
        raise BadInput(
            f"network={network!r}. Needed: a function of a norm spec, a Keras model, or the name "
            "of an architecture."
        )

    def _own_space(self, options):
        """The space of the network's norm sites."""
        function = _architecture(self.network) if isinstance(self.network, str) else None
        if function is not None:
            # Nothing is built.
            plan = models.plan(function, *self._shapes, **self._arguments)
            return NormSpace([_planned(site) for site in plan.sites], **options)
        if isinstance(self.network, keras.Model):
            return NormSpace(self.network, **options)
        model = self._builder("batch")
        space = NormSpace(model, **options)
        if "stages" in space.placements:
            # A function says itself what its stages are, if it has any.
            stages = len({site.stage for site in space.sites})
            try:
                self._builder({"stages": ["batch"] * stages})
            except (ValueError, TypeError):
                others = [word for word in space.placements if word != "stages"]
                space = NormSpace(model, **{**options, "placements": others or ["all"]})
        return space


def architectures():
    """The names of the architectures that can be searched by name: all that classify.

    >>> from search.hypermodel import architectures
    >>> "ResNet8" in architectures()
    True
    """
    return sorted(_functions())


def _functions():
    """The architectures by their names."""
    found = {name: getattr(models, name) for name in models.__all__}
    parameters = {name: inspect.signature(value).parameters for name, value in found.items()}
    # Where `classes` has a default it counts the channels of an image.
    return {
        name: found[name]
        for name, known in parameters.items()
        if "classes" in known and known["classes"].default is inspect.Parameter.empty
    }


def _architecture(name):
    """An architecture by its name, however that is written."""
    known = _functions()
    found = {one.lower(): function for one, function in known.items()}
    function = found.get(name.lower().replace("-", ""))
    if function is None:
        raise unknown("architecture", name, sorted(known))
    return function


def _planned(site):
    """A norm site of an architecture that was planned, as the space has it."""
    axis = site.axis % len(site.shape)
    size = tuple(s for i, s in enumerate(site.shape) if i not in (0, axis))
    return Site(site.channels, size, site.stage)


def _has_softmax(model):
    """Whether a model's outputs are probabilities."""
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    outputs = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    last = outputs[-1] if outputs else None
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax
