"""The hypermodel: norm spec -> compiled model."""

import contextlib
import inspect
import os
import warnings
from typing import Any

import keras
import keras_tuner
import numpy as np

import kerasnorm
from kerasnorm import models
from kerasnorm.batches import are_inputs
from kerasnorm.surgery.find import is_graph
from kerasnorm.surgery.rebuild import rebuild
from kerasnorm.surgery.recompile import compile_like
from search import fingerprint, freezing
from search.data.parts import Form
from search.errors import BadInput, SearchError, one_line, unknown
from search.fitting import (
    check_model,
    evaluates,
    last_activation,
    own_training,
    usual_compilation,
)
from search.names import is_saved
from search.space import NormSpace, Place, epochs_of

# How the norms of a trained model begin.
STARTS = ("fresh", "preserved", "converted")
# Architectures whose outputs are images.
TO_IMAGES = ("Pix2PixGenerator",)
# And those whose outputs are tokens, one for each position.
TO_TOKENS = ("Transformer",)


class NormHyperModel(keras_tuner.HyperModel):
    """A network whose norms are searched, for `NormTuner` and for any tuner of KerasTuner's.

    Args:
        network: what is searched:
            a function of a norm spec that returns a Keras model;
            the name of an architecture in `kerasnorm.models` (with `input_shape` and `classes`),
            which is planned, not built, to know its norm sites;
            a Keras model, functional or Sequential, in which the norms are replaced, or the path of
            a `.keras` file that holds one. Its weights are kept: every trial starts from them.
            `start` says how the norms begin.
        space: a `NormSpace`; None makes one from the network's norm sites, for which a function is
            called once.
        compile: `compile(model, values)`, which compiles a model that is not; None takes Adam and
            cross-entropy over integer labels, or the mean squared error of a regression. A learning
            rate that is searched is set afterwards.
        learning_rate: of that Adam, where it is not searched.
        transforms: for Consistent Normalization, the identity (None) first; see
            `kerasnorm.ConsistentModel`. Searched is then how many of them, from the first on, have
            branches of their own in training: with 1 the norm is the plain one.
        jit_compile: as in `keras.Model.compile`, where this class compiles.
        start: how the norms of a Keras model begin: `"fresh"`, with those weights that old and new
            norm have in common; `"preserved"`, with what the old norm computes as far as
            `replace_norms(preserve=True)` can give it; `"converted"`, fitted to that by
            `kerasnorm.calibrate`.
        start_data: unlabelled inputs for `"converted"`, arrays as `calibrate` takes them.
        start_examples: how many of them at most.
        frozen_epochs: in how many of the first epochs the norms of a Keras model train alone, while
            all its other weights are frozen; several are searched, the default first. The model as
            it is (None in place of a spec) trains its own norms first.
        input_shape, classes: of the data. An architecture given by its name needs them; any other
            network is refused where it does not fit them.
        form: the same for any task, as `search.data.Data.form` has it.
        tried: `tried(model)` is called once with a compiled model that is not trained, and refuses
            what will not work with it.
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

    # The model that a network's function gave to make the space of, and what both are.
    _first: Any = None
    _fingerprint: Any = None
    # Whether `evaluate` measures something, and a model's name; known with the fingerprint.
    evaluates = True
    model_name: str | None = None

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
        start="fresh",
        start_data=None,
        start_examples=512,
        form=None,
        tried=None,
        frozen_epochs=0,
        **options,
    ):
        super().__init__(name="norms")
        if is_saved(network):
            network = saved(network)
        self.start = start
        self.start_examples = start_examples
        self._start_data = _start_data(network, start, start_data, start_examples)
        self.network = network
        self.compile = compile
        self.learning_rate = learning_rate
        self.transforms = transforms
        self.jit_compile = jit_compile
        # KerasTuner's own tuners forget both before each trial.
        self._policy = keras.config.dtype_policy()
        self._distribution = keras.distribution.distribution()
        if form is None and None not in (input_shape, classes):
            form = Form(tuple(input_shape), (classes,), classes)
        self.form = form
        _check_transforms(transforms, form)
        self._tried = tried
        self._arguments = arguments or {}
        self._builder = self._builder_of(network)
        if space is not None and options:
            raise BadInput(f"space and {', '.join(options)} were given. Needed: one or the other.")
        if transforms and space is None:
            options.setdefault("branches", range(1, len(transforms) + 1))
        frozen = epochs_of(frozen_epochs)
        # Where a norm was not tried, as among the baselines, it is the first of those searched.
        self.frozen_epochs = frozen[0]
        if len(frozen) > 1:
            options["frozen_epochs"] = frozen
        self.space = self._own_space(options) if space is None else space
        if max(self.space.branches) > len(transforms or [None]):
            raise BadInput(
                f"up to {max(self.space.branches)} branches are searched, and there are "
                f"{len(transforms or [])} transforms. Needed: transforms=[None, ...], one for "
                "each branch."
            )
        self.check_frozen_epochs()
        if self._first is not None:
            self._fingerprint = self._fingerprint_of(self._first)
            self._first = None

    def check_frozen_epochs(self, epochs=None):
        """Refuse frozen epochs of a network without weights, or no fewer than those of a training.

        Args:
            epochs: of a full training; None where they are not known yet.
        """
        most = max(self.frozen_epochs, *self.space.frozen_epochs)
        if most and not isinstance(self.network, keras.Model):
            raise BadInput(
                f"frozen_epochs={most} and a network that is no Keras model, so it has no weights "
                "to start from. Needed: a trained Keras model, or frozen_epochs=0."
            )
        if most and epochs is not None and most >= epochs:
            raise BadInput(
                f"frozen_epochs={most} of {epochs} epochs. Needed: fewer than the epochs of a "
                "training."
            )

    def fingerprint(self):
        """What the network is and how it is trained, as `search.fingerprint` tells it.

        The norms are those of "batch". A network's function is called once, unless that was done.
        """
        if self._fingerprint is None:
            self._fingerprint = self._fingerprint_of(None)
        return self._fingerprint

    def _fingerprint_of(self, model):
        try:
            if model is None:
                model = self._builder("batch")
            given = isinstance(self.network, keras.Model)
            network = fingerprint.of_network(self.network if given else model, weights=given)
            self._finish(model, self.space.active({}))
            self.evaluates, self.model_name = evaluates(model), model.name
            if max(self.frozen_epochs, *self.space.frozen_epochs):
                freezing.check(model)
            if self._tried is not None:
                self._tried(model)
            trained = {"network": network, "training": fingerprint.of_training(model)}
            if self.start == "converted":
                trained["start"] = {"norms": self.start, "examples": self.start_examples}
            elif self.start != "fresh":
                trained["start"] = {"norms": self.start}
            if self.frozen_epochs:
                trained["frozen_epochs"] = self.frozen_epochs
            return trained
        except SearchError:
            raise
        except Exception as error:
            # The trials will say more of it.
            return {"network": {"error": one_line(error)}, "training": None}

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
        """The compiled model of a norm spec and of the further hyperparameters.

        None stands for a Keras model as it is, with its own norms and weights.
        """
        model = self._builder(spec)
        if not isinstance(model, keras.Model):
            raise BadInput(f"the network's function returned {model!r}. Needed: a Keras model.")
        if self._start_data is not None and spec is not None:
            kerasnorm.calibrate(
                model, self.network, self._start_data, examples=self.start_examples, verbose=0
            )
        branches = values.get("branches", 1)
        if branches > 1:
            single, model = model, kerasnorm.ConsistentModel(model, self.transforms[:branches])
            if single.compiled:
                model.compile_from_config(single.get_compile_config())
        self._finish(model, values)
        return model

    def _finish(self, model, values):
        """Compile a model that is not, and set what is searched."""
        by_user = not model.compiled and self.compile is not None
        if not model.compiled:
            (self.compile or self._compile)(model, values)
        rate = values.get("learning_rate")
        if rate is None:
            return
        try:
            model.optimizer.learning_rate = rate
        except (AttributeError, TypeError) as error:
            # A function of the values may have made its optimizers, or its schedule, of them.
            if not by_user:
                what = "a schedule" if model.optimizer is not None else "no optimizer of its own"
                raise BadInput(
                    f"learning rates are searched, and model {model.name!r} is compiled with "
                    f"{what}. Needed: compile=function, which is given the model and the values "
                    "and takes values['learning_rate']; or no learning_rates."
                ) from error

    def fit(self, hp, model, *args, **kwargs):
        """Train, the norms first; a searched batch size counts for arrays."""
        size = hp.values.get("batch_size")
        if size is not None and are_inputs(args[0] if args else kwargs.get("x")):
            kwargs["batch_size"] = size
        frozen = hp.values.get("frozen_epochs", self.frozen_epochs)
        if kwargs.get("initial_epoch", 0) < frozen:
            return freezing.fit(model, frozen, args, kwargs)
        return model.fit(*args, **kwargs)

    def _compile(self, model, values):
        task = "classification" if self.form is None else self.form.task
        loss, metrics = usual_compilation(task, last_activation(model) != "softmax")
        optimizer = keras.optimizers.Adam(self.learning_rate)
        model.compile(optimizer, loss, metrics=metrics, jit_compile=self.jit_compile)

    def _builder_of(self, network):
        """A function of a norm spec."""
        if isinstance(network, str):
            function = _architecture(network)
            self._check_architecture(network)
            return lambda spec: function(*self._shapes, norm=spec, **self._arguments)
        if isinstance(network, keras.Model):
            preserve = self.start != "fresh"

            def changed(spec):
                if spec is None:
                    new = copied(network)
                else:
                    new = kerasnorm.replace_norms(network, spec, preserve=preserve)
                self._check_copy(network, new)
                return new

            return changed
        if callable(network):
            return network
        raise BadInput(
            f"network={network!r}. Needed: a function of a norm spec, a Keras model, or the name "
            "of an architecture."
        )

    def _check_copy(self, network, new):
        """Refuse a copy of a model that would be trained in another way."""
        name = f"model {network.name!r} ({type(network).__name__})"
        own = own_training(network)
        if own and type(new) is not type(network):
            raise BadInput(
                f"{name} has its own {' and '.join(own)}, which a copy with other norms has not. "
                "Needed: a function of a norm spec that returns such a model."
            )
        if network.compiled and not new.compiled and self.compile is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.compile_from_config(network.get_compile_config())
            if not new.compiled:
                raise BadInput(
                    f"{name} has its own compile, whose arguments are not known. Needed: "
                    "compile=function, which is given a model and the values and compiles it; or "
                    "a function of a norm spec that returns a compiled model."
                )

    @property
    def _shapes(self):
        """What an architecture is called with first."""
        return self.form.input_shape, self.form.outputs

    def _check_architecture(self, network):
        """Refuse an architecture for another task, and set what the task asks of it."""
        form = self.form
        if form is None:
            raise BadInput(f"architecture {network!r} needs input_shape and classes.")
        if not (isinstance(form.input_shape, tuple) and isinstance(form.output_shape, tuple)):
            raise BadInput(
                f"architecture {network!r} has one input and one output, and the data have "
                "several. Needed: a model of your own."
            )
        if form.task == "compiled":
            raise BadInput(
                f"task='compiled' and the architecture {network!r}, which is not. Needed: a "
                "compiled model, or another task."
            )
        wanted = architectures(form.task, images=len(form.output_shape) > 1)
        name = _architecture(network).__name__
        if name not in wanted:
            raise BadInput(
                f"architecture {name} gives outputs of another shape than {form.output_shape}, "
                f"which a {form.task} of these data needs. Needed: {' or '.join(wanted)}, or a "
                "model of your own."
            )
        if form.task != "classification":
            # Keras's loss of probabilities of pixels fails on torch: their logits are taken.
            self._arguments = {"classifier_activation": None, **self._arguments}

    def _first_model(self):
        """What the network's function returns; if it fails, an error that says how."""
        name = getattr(self.network, "__qualname__", repr(self.network))
        needed = 'Needed: a function that takes a norm spec, such as "batch", and returns a model.'
        try:
            inspect.signature(self.network).bind("batch")
        except TypeError as error:
            raise BadInput(
                f"{name} cannot be called with a norm spec: {error}. {needed}"
            ) from error
        except ValueError:
            # Some callables have no signature.
            pass
        try:
            model = self._builder("batch")
        except SearchError:
            raise
        except (Exception, SystemExit) as error:
            raise BadInput(f'{name}("batch") raised {one_line(error)}. {needed}') from error
        if not isinstance(model, keras.Model):
            raise BadInput(f"{name} returned {model!r}. {needed}")
        return model

    def _own_space(self, options):
        """The space of the network's norm sites."""
        function = _architecture(self.network) if isinstance(self.network, str) else None
        if function is not None:
            known = inspect.signature(function).parameters
            for argument in self._arguments:
                if argument not in known:
                    raise BadInput(f"architecture {self.network!r} does not take {argument}.")
            # Nothing is built.
            with _refusals():
                plan = models.plan(function, *self._shapes, **self._arguments)
            return NormSpace([_planned(site) for site in plan.sites], **options)
        model = self.network if isinstance(self.network, keras.Model) else self._first_model()
        if model is self.network and not is_graph(model):
            raise BadInput(
                f"model {model.name!r} ({type(model).__name__}) is defined by its own call, and "
                "cannot be copied with other norms. Needed: a function of a norm spec that returns "
                "such a model."
            )
        with _refusals():
            space = NormSpace(model, **options)
        if self.form is not None:
            check_model(model, self.form)
        if model is self.network:
            return space
        self._first = model
        if "stages" in space.placements:
            # A function says itself what its stages are, if it has any.
            stages = len({site.stage for site in space.sites})
            try:
                self._builder({"stages": ["batch"] * stages})
            except (ValueError, TypeError):
                others = [word for word in space.placements if word != "stages"]
                space = NormSpace(model, **{**options, "placements": others or ["all"]})
        return space


def copied(model):
    """A Keras model once more: its layers, its weights, and how it is compiled."""
    found = rebuild(model, [])
    compile_like(model, found.model, found.pairs)
    return found.model


def saved(path):
    """The model in a `.keras` file."""
    if not os.path.isfile(path):
        raise BadInput(f"network={path!r}: there is no such file.")
    try:
        return keras.saving.load_model(path)
    except (Exception, SystemExit) as error:
        raise BadInput(f"network={path!r}: {one_line(error)}.") from error


def _start_data(network, start, data, examples):
    """The examples for `"converted"`, evenly from all of the data; else None."""
    if start not in STARTS:
        raise unknown("start", start, STARTS)
    if start != "fresh" and not isinstance(network, keras.Model):
        raise BadInput(
            f"start={start!r} and a network that is no Keras model, so its norms were not trained. "
            "Needed: a trained Keras model, or start='fresh'."
        )
    if start != "converted":
        return None
    if data is None:
        raise BadInput("start='converted' without start_data. Needed: unlabelled inputs, arrays.")
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 2:
        raise BadInput(f"start_examples={examples!r}. Needed: an integer of at least 2.")

    def some(array):
        rows = np.linspace(0, len(array) - 1, min(examples, len(array)))
        return np.asarray(array)[rows.round().astype(int)]

    return keras.tree.map_structure(some, data)


def _check_transforms(transforms, form):
    """Refuse transformations of one input where there are several."""
    images = [one for one in transforms or [] if isinstance(one, kerasnorm.transforms.Transform)]
    if images and form is not None and not isinstance(form.input_shape, tuple):
        raise BadInput(
            f"{type(images[0]).__name__} transforms one input, and the data have several. Needed: "
            "functions of all inputs, which return them all."
        )


@contextlib.contextmanager
def _refusals():
    """What the models and the surgery refuse, as refusals of the search."""
    try:
        yield
    except SearchError:
        raise
    except ValueError as error:
        raise BadInput(str(error)) from error


def architectures(task="classification", images=False):
    """The names of the architectures that can be searched by name.

    Args:
        task: that they are for.
        images: of a regression, whether an image is the target.

    >>> from search.hypermodel import architectures
    >>> "ResNet8" in architectures(), architectures("segmentation")
    (True, ['Pix2PixGenerator'])
    """
    if task == "tokens":
        return sorted(TO_TOKENS)
    to_images = task == "segmentation" or images
    return sorted(
        name for name in set(_functions()) - set(TO_TOKENS) if (name in TO_IMAGES) == to_images
    )


def _functions():
    """The architectures by their names: all that take a number of classes, but for critics."""
    found = {name: getattr(models, name) for name in models.__all__}
    parameters = {name: inspect.signature(value).parameters for name, value in found.items()}
    return {
        name: found[name]
        for name, known in parameters.items()
        if name in TO_IMAGES
        or ("classes" in known and known["classes"].default is inspect.Parameter.empty)
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
    return Place(site.channels, site.size, site.stage)
