"""Compare ways to other norms in a trained network: a plain swap, `preserve`, and conversion.

Networks are trained here, classifiers with batch norm. Each way to each norm gives a network, whose
accuracy on the test part is measured as it is, and while it is trained further with labels: in
large and in small batches, on the same data and on another domain, by clients that have classes of
their own, and privately. Batch norm trained on, frozen batch norm and training from nothing stand
beside them. Of other tasks there is the error of each new network. Conversions see unlabelled
training examples.

Every figure becomes a line of a file as soon as it is there, and a later call goes on from there.
--show prints the tables of a file, --page writes them into a page, --picture draws them.
"""

import functools
import json
import pathlib
import time

from benchmarks.convert_training import (
    TRAININGS,
    compile_for_training,
    forget,
    interleaved,
    train,
    train_further,
)

HELP = "compare a plain swap of the norms of a trained network with conversion"
FILE = "benchmarks/results/conversions.jsonl"
TASKS: dict[str, dict] = {
    "digits/ResNet8": {"width": 16, "epochs": 30},
    "digits/ResNet20": {"width": 8, "epochs": 30},
    "digits/VGG13": {"width": 8, "epochs": 30},
    "digits/MobileNet": {"width": 0.25, "epochs": 60},
    "multidomain/ResNet8": {"width": 16, "epochs": 8, "private": True},
    "multidomain/ResNet20": {"width": 8, "epochs": 8},
    "multidomain/VGG13": {"width": 8, "epochs": 8, "private": True},
    "multidomain/MobileNet": {"width": 0.25, "epochs": 12, "private": True},
    # Other tasks than classification: examples/task_sets.py has their networks.
    "diabetes/MLP": {},
    "shapes/Pix2PixGenerator": {},
    "edges2photos/Pix2PixGenerator": {},
    "reversal/Transformer": {},
}
# At once.
NORMS = ("layer", "group", "ilm_layer")
WAYS = ("swapped", "preserved", "converted")
# Of conversions to this norm: steps, how many examples they need, and where these may come from.
SWEPT = "ilm_layer"
# Of classifiers, without labels. Re-estimated statistics are those of the other domain: some of its
# images are what `reestimate` sees, and what the conversion of such a network sees.
AT_ONCE = (
    ("batch", "re-estimated"),
    *((norm, way) for norm in NORMS for way in WAYS),
    (SWEPT, "distilled"),
    (SWEPT, "re-estimated"),
)
# With labels: the norm and the way to it. To group norm `preserve` is the same as a swap.
TUNED = (
    ("batch", "as it was"),
    ("batch", "frozen"),
    ("group", "from nothing"),
    ("group", "swapped"),
    ("group", "converted"),
    ("ilm_layer", "swapped"),
    ("ilm_layer", "converted"),
)
# The same with private training, where a network has it: it takes long.
PRIVATE = (
    ("batch", "frozen"),
    ("group", "swapped"),
    ("group", "converted"),
    ("ilm_layer", "converted"),
)
STEPS = (20, 100, 500)
# How many examples conversions need.
EXAMPLES = (8, 32, 128, 512, 2048)
DISTILLATION = 200
BATCH_SIZE = 64
MOST_TESTED = 2000


def add_arguments(parser):
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated")
    parser.add_argument("--file", default=FILE, help=f"of the figures (default: {FILE})")
    parser.add_argument("--networks", metavar="DIR", help="keep the trained networks there")
    parser.add_argument("--no-tuning", action="store_true", help="nothing with labels")
    parser.add_argument("--show", action="store_true", help="print the tables of the file, only")
    parser.add_argument("--page", metavar="FILE", help="write the tables into a page, only")
    parser.add_argument("--picture", metavar="FILE", help="draw the tasks of the file, only")


def environment(options):
    return {}


def run(options):
    tasks = options.tasks.split(",")
    unknown = ", ".join(task for task in tasks if task not in TASKS)
    if unknown:
        raise SystemExit(f"--tasks {unknown}. Needed: some of {', '.join(TASKS)}.")
    if options.show or options.page or options.picture:
        from benchmarks import convert_tables

        found = [entry for entry in read(options.file) if entry["task"] in tasks]
        if options.show:
            print(convert_tables.text(found))
        if options.page:
            convert_tables.write_into(options.page, found)
        if options.picture:
            convert_tables.draw(found, options.picture)
        return 0
    for seed in map(int, options.seeds.split(",")):
        for task in tasks:
            unit = unit_of(task)(task, seed, Kept(options.file), options.networks)
            unit.measure(not options.no_tuning)
    return 0


def unit_of(task):
    """The class that measures a task: classifiers have widths, of all else there is an error."""
    from benchmarks.convert_tasks import OtherTask

    return Unit if TASKS[task] else OtherTask


def read(path):
    """The figures of a file: dictionaries."""
    path = pathlib.Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


class Kept:
    """The figures that are there, and a file for more."""

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self._keys = {self._key(entry) for entry in read(path)}

    @staticmethod
    def _key(entry):
        return tuple(entry.get(name) for name in ("task", "seed", "kind", "norm", "way", "on"))

    def missing(self, **key):
        """Whether there is no figure of this yet."""
        return self._key(key) not in self._keys

    def add(self, **entry):
        """One more, written at once."""
        print(json.dumps(entry), flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self._keys.add(self._key(entry))


class Unit:
    """A network, trained from a seed, and all that is made of it."""

    # Whether a network from a file is compiled as it was; classifiers are compiled anew.
    as_compiled = False

    def __init__(self, task, seed, kept, folder):
        from search import data as datasets

        self.task, self.seed, self.kept, self.folder = task, seed, kept, folder
        self.data_name, self.network = task.split("/")
        self.data = datasets.load(self.data_name)
        self.test_y = self.data.test.y[:MOST_TESTED]
        self.made = {}

    def _add(self, **entry):
        self.kept.add(task=self.task, seed=self.seed, **entry)

    def _missing(self, **key):
        return self.kept.missing(task=self.task, seed=self.seed, **key)

    def images(self, part, domain):
        """The images of a part, as they are or as another domain shows them."""
        x = getattr(self.data, part).x
        x = x[:MOST_TESTED] if part == "test" else x
        return x if domain == "same" else other_domain(x, part)

    def measure(self, tuning):
        """All figures that are missing."""
        self.old = self.trained()
        self.classes = predicted(self.old, self.images("test", "same"))
        if self._missing(kind="original"):
            self._add(
                kind="original",
                accuracy=accuracy(self.old, self.images("test", "same"), self.test_y),
                other=accuracy(self.old, self.images("test", "other"), self.test_y),
                parameters=self.old.count_params(),
            )
        for norm, way in AT_ONCE:
            if self._missing(kind="at once", norm=norm, way=way):
                self._at_once(norm, way)
        for count in EXAMPLES:
            if self._missing(kind="examples", norm=SWEPT, on=count) and count <= len(
                self.data.train
            ):
                self._examples(count)
        if self._missing(kind="other examples", norm=SWEPT):
            new = self.converted(SWEPT, domain="other")
            x = self.images("test", "same")
            self._add(kind="other examples", norm=SWEPT, accuracy=accuracy(new, x, self.test_y))
        if self._missing(kind="step", norm=SWEPT):
            self._time_steps()
        if tuning:
            for norm, way in TUNED:
                wanted = [
                    on
                    for on in self._trainings(norm, way)
                    if self._missing(kind="tuned", norm=norm, way=way, on=on)
                ]
                if wanted:
                    self._tune(norm, way, wanted)

    def _trainings(self, norm, way):
        privately = "private" in TASKS[self.task] and (norm, way) in PRIVATE
        return [on for on, training in TRAININGS.items() if privately or not training.private]

    def _train(self, domain):
        return self.images("train", domain), self.data.train.y

    def trained(self):
        """The network that is converted; from a file where it was kept."""
        import keras

        import kerasnorm  # noqa: F401  What is loaded may have its layers.

        path = None
        if self.folder:
            name = f"{self.task.replace('/', '-')}-{self.seed}.keras"
            path = pathlib.Path(self.folder) / name
            if path.exists():
                return keras.saving.load_model(path, compile=self.as_compiled)
        model = self.newly_trained()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            model.save(path)
        return model

    def newly_trained(self):
        """The same, not from a file."""
        import keras

        keras.utils.set_random_seed(self.seed)
        model = self.untrained("batch")
        x, y = self._train("same")
        steps = TASKS[self.task]["epochs"] * (len(y) // BATCH_SIZE)
        compile_for_training(model)
        rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
        train(model, x, y, steps, BATCH_SIZE, self.seed, rate=rate)
        return model

    def untrained(self, norm):
        """The architecture."""
        import keras

        import kerasnorm

        shape, classes = self.data.input_shape, self.data.classes
        width = TASKS[self.task]["width"]
        if self.network != "MobileNet":
            build = getattr(kerasnorm.models, self.network)
            return build(shape, classes, norm=norm, width=width, classifier_activation="softmax")
        # The smallest images that it takes are of 32x32 pixels.
        inputs = keras.Input(shape)
        x = keras.layers.Resizing(32, 32)(inputs)
        mobile = keras.applications.MobileNet(
            x.shape[1:], alpha=width, weights=None, classes=classes
        )
        model = keras.Model(inputs, mobile(x))
        return model if norm == "batch" else kerasnorm.replace_norms(model, norm)

    def way(self, norm, way):
        """The new network that a way to a norm gives."""
        import keras

        import kerasnorm

        if way == "from nothing":
            keras.utils.set_random_seed(self.seed + 100)
            return self.untrained(norm)
        if way in ("converted", "distilled"):
            return self.converted(norm, steps=DISTILLATION if way == "distilled" else 0)
        if way == "re-estimated" and norm != "batch":
            x = self.examples(512, "other")
            return kerasnorm.convert(self.way("batch", way), norm, x, verbose=0)
        if norm != "batch":
            return kerasnorm.replace_norms(self.old, norm, preserve=way == "preserved")
        new = keras.models.clone_model(self.old)
        new.set_weights(self.old.get_weights())
        if way == "re-estimated":
            kerasnorm.reestimate(new, self.examples(512, "other"))
            return new
        for layer in new._flatten_layers(include_self=False):
            if isinstance(layer, (kerasnorm.BatchNorm, keras.layers.BatchNormalization)):
                layer.trainable = way != "frozen"
        return new

    def examples(self, count, domain):
        """Some training images."""
        import numpy as np

        x = self.images("train", domain)
        return x[np.random.default_rng(self.seed).permutation(len(x))[:count]]

    def converted(self, norm, steps=0, count=512, domain="same"):
        """A conversion that sees some unlabelled training images; the same one is made once."""
        import kerasnorm

        key = norm, steps, count, domain
        if key not in self.made:
            x = self.examples(count, domain)
            began = time.perf_counter()
            new = kerasnorm.convert(self.old, norm, x, examples=count, steps=steps, verbose=0)
            self.made = {**self.made, key: (new, time.perf_counter() - began)}
        return self.made[key][0]

    def _at_once(self, norm, way):
        import numpy as np

        began = time.perf_counter()
        new = self.way(norm, way)
        seconds = time.perf_counter() - began
        now = predicted(new, self.images("test", "same"))
        self._add(
            kind="at once",
            norm=norm,
            way=way,
            accuracy=float(np.mean(now == self.test_y)),
            other=accuracy(new, self.images("test", "other"), self.test_y),
            agreement=float(np.mean(now == self.classes)),
            parameters=new.count_params() / self.old.count_params() - 1,
            seconds=round(seconds, 1),
        )

    def _examples(self, count):
        new = self.converted(SWEPT, count=count)
        x = self.images("test", "same")
        self._add(kind="examples", norm=SWEPT, on=count, accuracy=accuracy(new, x, self.test_y))

    def _time_steps(self):
        """The time of a training step, as a part of that with group norm; both are converted."""
        import numpy as np

        pair = [self.way(norm, "converted") for norm in ("group", SWEPT)]
        starts = [model.get_weights() for model in pair]
        if not self.as_compiled:
            for model in pair:
                compile_for_training(model)
        seconds = interleaved(pair, *(part[:BATCH_SIZE] for part in self._train("same")))
        for model, start in zip(pair, starts, strict=True):
            model.set_weights(start)
        self._add(kind="step", norm=SWEPT, ratio=float(np.median(seconds[1] / seconds[0])))

    def _tune(self, norm, way, wanted):
        """Train one network further, anew for each kind of training."""
        model = self.way(norm, way)
        start = model.get_weights()
        compiled = None
        for on in wanted:
            training = TRAININGS[on]
            model.set_weights(start)
            if training.private is compiled:
                forget(model.optimizer)
            else:
                compile_for_training(model, functools.partial(training.optimizer, self.seed))
                compiled = training.private
            x, y = self._train(training.domain)
            test = self.images("test", training.domain)
            found = {"0": accuracy(model, test, self.test_y)}
            began = 0
            for steps in (count for count in STEPS if count <= training.most_steps):
                train_further(model, x, y, steps - began, training, self.seed + 1000 + began)
                began = steps
                found[str(steps)] = accuracy(model, test, self.test_y)
            self._add(kind="tuned", norm=norm, way=way, on=on, accuracy=found)
        model.set_weights(start)


def other_domain(x, part):
    """The same images as another camera might see them: pale, tinted and noisy."""
    import numpy as np

    generator = np.random.default_rng([17, len(part)])
    tint = np.array([0.45, 0.3, 0.55])[: x.shape[-1]]
    noise = generator.normal(0.0, 0.1, x.shape)
    return (0.45 * x + tint + noise).astype("float32")


def predicted(model, x):
    """The classes that a model says."""
    return model.predict(x, batch_size=500, verbose=0).argmax(-1)


def accuracy(model, x, y):
    """The share of right ones."""
    return float((predicted(model, x) == y).mean())
