"""The command `kerasnorm-search`, which is `python -m search` too.

Keras is imported only after the arguments are read and checked, because they choose its backend. So
errors in the arguments are reported at once.
"""

import argparse
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import json
import logging
import math
import os
import sys
import tempfile
from collections.abc import Sequence

from search import early, executors, modules
from search.data import places
from search.errors import BadInput, Interrupted, SearchError, one_line, unknown
from search.executors import devices
from search.names import (
    BACKENDS,
    EXECUTOR_OPTIONS,
    NORMS,
    ORACLES,
    PLAIN,
    TASKS,
    is_saved,
    key,
    refuse_kerastuner_roles,
)

EPILOG = """\
examples:
  kerasnorm-search --arch resnet20 --data digits --trials 20 --out results
  kerasnorm-search --model my_models.py:build --data my_data.npz --norms batch,group,mode
  kerasnorm-search --resume --out results --trials 40
  kerasnorm-search report results
  kerasnorm-search plan --from results --difference 0.5

The folder named by --out holds report.html, which begins with the answer and exists from the first
trial on. It also holds best_norm.json for kerasnorm.get, tables, plots, manifest.json, and
journal.jsonl, from which --resume continues.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others of the command are."""

    def error(self, message):
        flags = [flag for action in self._actions for flag in action.option_strings]
        text = message.removeprefix("argument ").replace(": '", " '", 1)
        if text.startswith("unrecognized arguments: "):
            word = text.removeprefix("unrecognized arguments: ").split()[0]
            near = difflib.get_close_matches(word.partition("=")[0], flags, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise BadInput(f"the option {word} is unknown.{hint} --help lists them all.")
        raise BadInput(f"{text.removesuffix('.')}.")


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    top = _Parser(
        prog="kerasnorm-search",
        description="Find out which normalization a network should use on your data, and how "
        "sure the\nanswer is. The search uses the training and validation parts. Then the best "
        "norms and the\nplain ones are trained on new seeds and compared on the test part.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    searched = top.add_argument_group("what is searched")
    network = searched.add_mutually_exclusive_group()
    network.add_argument(
        "--arch",
        metavar="NAME",
        help="an architecture of kerasnorm.models, such as resnet20 (default: resnet8 for images, "
        "mlp for tables, pix2pixgenerator where the labels are images)",
    )
    network.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="a Keras model, or a function that takes a norm spec and returns one; MODULE is the "
        "path of a .py file, or a module that Python can import. Or FILE.keras, a saved model: "
        "every training starts from its weights",
    )
    searched.add_argument(
        "--start",
        choices=("fresh", "preserved", "converted"),
        default="fresh",
        help="how the norms of a trained --model begin: fresh (default), preserved, as far as "
        "their weights allow it, with what the old norms compute, or converted, fitted to that on "
        "training images",
    )
    searched.add_argument(
        "--start-examples",
        type=_integer(2),
        default=512,
        metavar="N",
        help="how many images a conversion sees, without labels (default: 512)",
    )
    searched.add_argument(
        "--frozen-epochs",
        type=_list_of(_integer(0)),
        default=[0],
        metavar="N",
        help="in the first N epochs the norms of a trained --model train alone, and all its other "
        "weights are frozen; several numbers with commas between are searched, the default first "
        "(default: 0)",
    )
    what = top.add_argument_group("data")
    what.add_argument(
        "--data",
        default="digits",
        metavar="NAME",
        help="digits (default), multidomain, diabetes (regression), shapes (segmentation), "
        "edges2photos (images from images), reversal (tokens from tokens), tfds:NAME for a "
        "set of tensorflow_datasets, the path of an .npz file with x and y, or with x_train, "
        "y_train, x_test and y_test (and x_val, y_val), these arrays as .npy files with a "
        "comma between (x.npy,y.npy), a folder of images with a folder for each class (in "
        "train, test and val, or without these), or FILE.py:FUNCTION, which returns data as "
        "search.run takes them; y is one label per example, or what --task says",
    )
    what.add_argument(
        "--task",
        choices=TASKS,
        help="what the network is trained for: classification, regression (y is numbers), "
        "segmentation (y has the number of a class for each pixel), tokens (x and y have one for "
        "each position, and 0 for padding), or compiled, whatever a compiled --model is for "
        "(default: what y looks like)",
    )
    what.add_argument("--data-dir", metavar="DIR", help="the folder of tensorflow_datasets")
    what.add_argument(
        "--image-size",
        type=_size,
        metavar="HxW",
        help="resize the images of tfds:NAME, or of a folder, to this",
    )
    what.add_argument(
        "--augment", action="store_true", help="augment images: pad, crop at random, flip"
    )
    space = top.add_argument_group("space")
    space.add_argument(
        "--norms",
        metavar="A,B,...",
        help=f"comma-separated norms to search (default: all, which are {', '.join(NORMS)})",
    )
    space.add_argument(
        "--import",
        type=early.split_words,
        dest="imports",
        default=[],
        metavar="MODULE,...",
        help="import modules first, such as one that gives norms of your own to "
        "kerasnorm.register; names, or paths of .py files",
    )
    space.add_argument(
        "--placements",
        default="all,first,stages",
        metavar="A,B,...",
        help="where a norm may go: all (at every place), first (at the first place, batch norm "
        "elsewhere), stages (a norm for each stage of the network) (default: all three)",
    )
    space.add_argument(
        "--learning-rates",
        type=_rates,
        metavar="A,B,...",
        help="search the learning rate too: comma-separated numbers, the default first; or a "
        "range, such as 0.0001..0.01",
    )
    space.add_argument(
        "--batch-sizes",
        type=_list_of(_integer(1)),
        metavar="A,B,...",
        help="search the batch size too: comma-separated integers, the default first",
    )
    space.add_argument(
        "--transforms",
        metavar="A,B,...",
        help="search Consistent Normalization too. The search chooses how many of these "
        "transformations of the images get a branch of the norms, in this order: scale_and_pad, "
        "blur, noise, cutout, resize or random_crop. An argument follows a colon: "
        "blur:1.5,cutout:8",
    )
    space.add_argument(
        "--show-space", action="store_true", help="print what would be searched, and exit"
    )
    how = top.add_argument_group("search")
    how.add_argument(
        "--oracle",
        default="tpe",
        metavar="NAME",
        help=f"what proposes the trials: {', '.join(ORACLES)} (default: tpe)",
    )
    how.add_argument(
        "--trials", type=_integer(1), default=20, metavar="N", help="run at most N (default: 20)"
    )
    how.add_argument(
        "--budget",
        type=_positive,
        metavar="SECONDS",
        help="stop the trials after this time; the trainings for the answer take additional time",
    )
    how.add_argument(
        "--epochs",
        type=_integer(1),
        default=10,
        metavar="N",
        help="epochs of a full training (default: 10)",
    )
    how.add_argument(
        "--batch-size",
        type=_integer(1),
        default=64,
        metavar="N",
        help="examples in a batch (default: 64)",
    )
    how.add_argument(
        "--learning-rate",
        type=_positive,
        default=1e-3,
        metavar="RATE",
        help="learning rate of Adam (default: 0.001)",
    )
    how.add_argument(
        "--objective",
        metavar="NAME",
        help="how to rank trials: val_error, val_loss, val_accuracy, or a different metric of "
        "training as NAME, NAME:min or NAME:max; or measure, which is --measure on the validation "
        "part (default: val_error; val_loss of a regression or of --task compiled; measure of a "
        "model with its own train_step and without a loss)",
    )
    how.add_argument(
        "--callbacks",
        metavar="FILE.py:FUNCTION",
        help="a function without arguments that returns a list of Keras's callbacks; each training "
        "gets a new list",
    )
    how.add_argument(
        "--early-stopping",
        choices=("off", "careful", "bold"),
        default="careful",
        help="careful (default) stops trials that can no longer become the best, bold stops those "
        "that are worse than the median, off stops none",
    )
    how.add_argument(
        "--reestimate",
        action="store_true",
        help="measure the moving statistics of norms again on training data before each "
        "evaluation; use it if short trainings of batch norm are no better than guessing",
    )
    how.add_argument(
        "--seed",
        type=_integer(0),
        default=0,
        metavar="N",
        help="seed of the proposals and the trials (default: 0)",
    )
    answer = top.add_argument_group("answer")
    answer.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N",
        help="compare the best norms on N new seeds (0: no comparison). auto adds seeds until each "
        "norm is shown to be better, worse or equal, or more would not show it (default: auto; two "
        "seeds for each of several --splits)",
    )
    answer.add_argument(
        "--most-seeds",
        type=_integer(3),
        default=20,
        metavar="N",
        help="of --seeds auto, at most (default: 20)",
    )
    answer.add_argument(
        "--splits",
        type=_integer(1),
        default=1,
        metavar="K",
        help="draw training and test part anew K times, at least 3, from the examples of both, and "
        "spread the seeds over these splits; K divides --seeds. The answer is then about data of "
        "this kind, and not about one split of them (default: 1, the data as they are)",
    )
    answer.add_argument(
        "--margin",
        type=_positive,
        metavar="D",
        help="a difference up to D does not matter: in points (0.5 is half a percent of the test "
        "examples), or in the unit of a measure that is no share. Norms that are shown to be equal "
        "within it are called so, and the cheaper one is recommended",
    )
    answer.add_argument(
        "--measure",
        metavar="NAME",
        help="what is measured on the test part: error, accuracy, pixel_error, mean_iou, "
        "token_error, loss, a metric of Keras's such as mean_absolute_error, with :min or "
        ":max behind it where its name does not say which is better (of several outputs after "
        "the name of one, such as kind_accuracy), or MODULE:FUNCTION:max for a function of the "
        "model and the test part (default: error, pixel_error of a segmentation, token_error of "
        "tokens, mean_squared_error of a regression, loss of --task compiled)",
    )
    answer.add_argument(
        "--candidates",
        type=_integer(1),
        default=3,
        metavar="N",
        help="compare the N best norms (default: 3)",
    )
    answer.add_argument(
        "--baselines",
        metavar="A,B,...",
        help=f"comma-separated norms to compare with (default: those of {', '.join(PLAIN)} that "
        "are among --norms); original is a --model as it is, trained like the others (one of them "
        "with --start preserved or converted)",
    )
    answer.add_argument(
        "--ablation",
        type=_integer(0),
        default=2,
        metavar="N",
        help="train the best candidate that has hyperparameters again, with up to N different "
        "values of each, one changed at a time (default: 2; 0: none)",
    )
    where = top.add_argument_group("running")
    where.add_argument(
        "--executor",
        default="processes",
        metavar="NAME",
        help="where trainings run: processes (default) of this machine; ray, a cluster; or inline, "
        "the process of the command itself",
    )
    where.add_argument(
        "--workers",
        type=_integer(1),
        metavar="N",
        help="run N trainings at a time (default: 1; with ray, as many as there is room for)",
    )
    where.add_argument(
        "--trial-seconds",
        type=_positive,
        metavar="SECONDS",
        help="end a training that takes longer, begin it once more, then count it as failed "
        "(default: no limit)",
    )
    where.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the Ray cluster: auto (default), the one that this machine belongs to; HOST:PORT; "
        "or local, one that is started here",
    )
    where.add_argument(
        "--cpus-per-trial",
        type=_positive,
        metavar="N",
        help="the cores of each training on a Ray cluster (default: 1)",
    )
    where.add_argument(
        "--gpus-per-trial",
        type=_positive,
        metavar="N",
        help="the GPUs of each training on a Ray cluster; may be a fraction (default: 0)",
    )
    where.add_argument(
        "--out",
        default="search-results",
        metavar="DIR",
        help="the folder for all results (default: search-results)",
    )
    where.add_argument("--resume", action="store_true", help="continue the search in --out")
    where.add_argument(
        "--backend",
        metavar="NAME",
        help=f"the backend of Keras: {', '.join(BACKENDS)} (default: KERAS_BACKEND, then "
        "keras.json, then the one that is installed)",
    )
    where.add_argument(
        "--width",
        type=_integer(1),
        metavar="N",
        help="the channels of the first stage of --arch, where it can be set",
    )
    where.add_argument(
        "--no-jit",
        action="store_true",
        help="do not compile with XLA; starts faster with small networks",
    )
    where.add_argument(
        "--deterministic", action="store_true", help="use only operations that repeat bit for bit"
    )
    where.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: as on the command line; None takes those.

    Returns:
        The exit status: 0 for success, 2 for refused arguments or data, 1 for other failures, 130
        for Ctrl-C.

    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        if arguments[:1] == ["report"]:
            return _report(arguments[1:])
        if arguments[:1] == ["plan"]:
            return _plan(arguments[1:])
        options = parser().parse_args(arguments)
        return _run(_going_on(arguments, options) if options.resume else options)
    except Interrupted as error:
        return _refuse(error, 130)
    except SearchError as error:
        if debug:
            raise
        return _refuse(error, 2 if isinstance(error, ValueError) else 1)
    except KeyboardInterrupt:
        return _refuse(SearchError("Interrupted."), 130)
    except Exception as error:
        if debug:
            raise
        return _refuse(f"{one_line(error)}. --debug shows the traceback.", 1)


def _report(arguments):
    """Run `kerasnorm-search report DIR`: write the report of a folder without training."""
    reports = _Parser(
        prog="kerasnorm-search report",
        description="Write the report of a search again from the journal in its folder. The search "
        "may have ended, been interrupted or still be running.",
    )
    reports.add_argument("folder", metavar="DIR", help="the folder given to --out")
    folder = reports.parse_args(arguments).folder
    from search.report import live

    answer = live.rebuild(folder)
    sys.stdout.write(f"{answer.sentence}\n{os.path.join(folder, 'report.html')}\n")
    return 0


def _plan(arguments):
    """Run `kerasnorm-search plan`: what a smaller difference would take, without training."""
    plans = _Parser(
        prog="kerasnorm-search plan",
        description="Say how many seeds and test examples it would take to show a difference, from "
        "the chance seen in a search that has its answer. Nothing is trained.",
    )
    plans.add_argument(
        "--from", dest="folder", metavar="DIR", required=True, help="the folder given to --out"
    )
    plans.add_argument(
        "--difference",
        type=_positive,
        metavar="D",
        required=True,
        help="the least difference that matters to you: in points (0.5 is half a percent of the "
        "test examples), or in the unit of the measure where that is no share",
    )
    options = plans.parse_args(arguments)
    from search.report import live

    sys.stdout.write(f"{live.plan(options.folder, options.difference)}\n")
    return 0


def _refuse(error, status=2):
    text = " ".join(str(error).split())
    sys.stderr.write(f"kerasnorm-search: {text}\n")
    return status


def _run(options):
    refuse_kerastuner_roles()
    early.check(options)
    if options.arch is None and options.model is None:
        options.arch = early.architecture_for(options)
    executor = executors.make(options.executor, **early.of_executor(options))
    with contextlib.closing(executor):
        return _run_with(executor, options)


def _run_with(executor, options):
    _start_keras(options.backend, None if options.show_space else executor)
    import keras
    from rich.console import Console

    from search import fitting, running
    from search.data import load
    from search.hypermodel import NormHyperModel
    from search.report import terminal

    for place in options.imports:
        modules.module_of(place, f"--import {place!r}")
    console = Console()
    network = options.arch or _loaded(options.model)
    data = getattr(options, "loaded", options.data)
    if options.task is None and fitting.task_of_model(network) is not None:
        # A compiled model may say that its task is another one than the labels look like.
        data = options.data
    arguments = None if options.width is None else {"width": options.width}
    common = {
        "norms": options.norms,
        "placements": options.placements,
        "learning_rates": options.learning_rates,
        "batch_sizes": options.batch_sizes,
        "frozen_epochs": options.frozen_epochs,
        "transforms": options.transforms
        and [None, *map(_transform, options.transforms.split(","))],
    }
    if options.show_space:
        task = options.task or fitting.task_of_model(network)
        form = load(data, options.data_dir, options.image_size, task).form
        model = NormHyperModel(network, arguments=arguments, form=form, **common)
        console.print(str(model.space), markup=False, highlight=False, soft_wrap=True)
        return 0
    result = running.run(
        network,
        data=data,
        task=options.task,
        measure=options.measure,
        oracle=options.oracle,
        trials=options.trials,
        budget=options.budget,
        epochs=options.epochs,
        seeds=options.seeds,
        most_seeds=options.most_seeds,
        splits=options.splits,
        margin=options.margin,
        callbacks=options.callbacks and modules.function_of(options.callbacks, "--callbacks"),
        objective=options.objective,
        executor=executor,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        candidates=options.candidates,
        baselines=options.baselines,
        ablation=options.ablation,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        augmentation=True if options.augment else None,
        early_stopping=options.early_stopping,
        reestimate=options.reestimate,
        jit_compile=False if options.no_jit else "auto",
        deterministic=options.deterministic,
        data_dir=options.data_dir,
        image_size=options.image_size,
        arguments=arguments,
        start=options.start,
        start_examples=options.start_examples,
        command=replay(options, keras.backend.backend()),
        options=_words(_from_anywhere(options), keras.backend.backend()),
        console=console,
        **common,
    )
    terminal.show(console, result.rows, result.runs, result.manifest, result.answer, result.folder)
    return 0


def _start_keras(asked, executor):
    """Choose the backend, and import Keras with it; so do the workers of an executor meanwhile."""
    if "keras" in sys.modules:
        import keras

        running = keras.backend.backend()
        if asked not in (None, running):
            raise BadInput(f"--backend {asked}, and Keras runs on {running} already.")
        return
    name, said = early.choose_backend(asked)
    if said:
        sys.stderr.write(f"kerasnorm-search: {said}\n")
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if executor is not None:
        if executor.apart and devices.gpus():
            # They are for the workers.
            devices.hide_gpus()
        executor.warm(("search.trial",))
    with _silent():
        importlib.import_module("keras")
    # Its advice on tracing less is not for who runs a command.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _silent():
    """Keep what native code writes to stderr, and show it only if there is an exception.

    TensorFlow reports its start there, whatever TF_CPP_MIN_LOG_LEVEL says.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(kept, written.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _transform(text):
    """What `NAME` or `NAME:NUMBER` names of `kerasnorm.transforms`."""
    from kerasnorm import transforms

    known = {
        name.lower(): value
        for name, value in vars(transforms).items()
        if isinstance(value, type)
        and issubclass(value, transforms.Transform)
        and value not in (transforms.Transform, transforms.RandomTransform)
    }
    name, separator, number = text.strip().partition(":")
    if key(name) not in known:
        raise unknown("transform", name, sorted(one.__name__ for one in known.values()))
    try:
        given = (json.loads(number),) if separator else ()
    except ValueError:
        raise BadInput(f"--transforms {text!r}. Needed: NAME:NUMBER, such as blur:1.5.") from None
    try:
        inspect.signature(known[key(name)]).bind(*given)
    except TypeError as error:
        raise BadInput(
            f"--transforms {text!r}: {error}. Needed: NAME:NUMBER, such as cutout:8."
        ) from error
    try:
        return known[key(name)](*given)
    except (TypeError, ValueError) as error:
        raise BadInput(f"--transforms {text!r}: {error}") from error


def _loaded(place):
    """What `MODULE:FUNCTION` names; the path of a saved model as it is."""
    if is_saved(place):
        return place
    module_name, attribute = early.split_place(place)
    module = modules.module_of(module_name, f"--model {place!r}")
    if not hasattr(module, attribute):
        if module_name.partition(".")[0] in ("search", "kerasnorm"):
            raise BadInput(
                f"--model {place!r}: {module_name} is a package of this command. Needed: the path "
                f"of your file, such as {module_name}.py:{attribute}."
            )
        known = [name for name, value in vars(module).items() if _could_be_network(name, value)]
        raise unknown(f"--model {place!r}: the name", attribute, known)
    return getattr(module, attribute)


def _could_be_network(name, value):
    if name.startswith("_") or inspect.ismodule(value):
        return False
    return callable(value) or hasattr(value, "layers")


def _going_on(arguments, options):
    """The options with those that the search to be resumed was begun with, where none are given."""
    from search import store

    words = store.read(options.out).call.get("options")
    if words is None:
        if options.arch or options.model:
            return options
        raise BadInput(
            f"the search in {options.out} was begun in Python. Needed: "
            f"search.run(out={options.out!r}, resume=True)."
        )
    found = parser().parse_args(words)
    if any(word.partition("=")[0] == "--executor" for word in arguments):
        # The options of another one.
        vars(found).update(dict.fromkeys(EXECUTOR_OPTIONS))
    return parser().parse_args(arguments, namespace=found)


def replay(options, backend):
    """The command that does the same again, in a new folder."""
    # Not `python -m search`: that would take a search.py of the user's for the package.
    return ["kerasnorm-search", *_words(options, backend), "--out", f"{options.out}-again"]


def _words(options, backend):
    """The options that are not the defaults, without where to and how to show it."""
    command = ["--backend", backend]
    for action in parser()._actions:
        name = action.dest
        if name in ("help", "resume", "out", "backend", "debug", "show_space"):
            continue
        value = getattr(options, name)
        if value == action.default:
            continue
        flag = action.option_strings[-1]
        if value is True:
            command.append(flag)
        elif name == "image_size":
            command += [flag, "x".join(map(str, value))]
        elif isinstance(value, tuple):
            command += [flag, "..".join(map(str, value[1:]))]
        else:
            command += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return command


def _from_anywhere(options):
    """The options with paths that do not depend on the folder that one is in."""
    changed = argparse.Namespace(**vars(options))
    changed.data = places.absolute(changed.data)
    if changed.data_dir is not None:
        changed.data_dir = os.path.abspath(changed.data_dir)
    changed.imports = [
        os.path.abspath(place) if place.endswith(".py") else place for place in changed.imports
    ]
    if changed.model is not None:
        module, name = ("", "")
        if is_saved(changed.model):
            changed.model = os.path.abspath(changed.model)
        else:
            module, name = early.split_place(changed.model)
        if module.endswith(".py"):
            changed.model = f"{os.path.abspath(module)}:{name}"
    for name in ("callbacks", "measure"):
        place = getattr(changed, name)
        if place is not None and place.partition(":")[0].endswith(".py"):
            setattr(changed, name, os.path.abspath(place))
    return changed


def _size(text):
    """`32x48` as (32, 48)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size. Needed: HxW, such as 32x32")
    return int(parts[0]), int(parts[1])


def _integer(least):
    """A type for integers that are not too small."""

    def convert(text):
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r}. Needed: an integer of at least {least}")

    return convert


def _seeds(text):
    """A number of seeds, or `auto`."""
    return text if text == "auto" else _integer(0)(text)


def _positive(text):
    """A number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}. Needed: a number above 0")


def _rates(text):
    """Comma-separated numbers, or `("range", lowest, highest)` of `LOW..HIGH`."""
    low, dots, high = text.partition("..")
    if not dots:
        return _list_of(_positive)(text)
    low, high = _positive(low), _positive(high)
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r}. Needed: LOW..HIGH, such as 0.0001..0.01")
    return "range", low, high


def _list_of(convert):
    """A type for comma-separated values."""
    return lambda text: [convert(part.strip()) for part in text.split(",")]
