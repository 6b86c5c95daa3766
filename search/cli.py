"""The command `kerasnorm-search`, which is `python -m search` too.

Keras is imported only once the arguments are read: they choose its backend.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence

from search.errors import BadInput, Interrupted, SearchError, unknown

BACKENDS = ("tensorflow", "jax", "torch")
EPILOG = """\
examples:
  kerasnorm-search --arch resnet20 --data digits --trials 20 --out results
  kerasnorm-search --model my_models.py:build --data my_data.npz --norms batch,group,mode
  kerasnorm-search --arch resnet20 --data digits --trials 40 --out results --resume

The folder of --out gets report.html with the answer at its top, best_norm.json for
kerasnorm.get, tables, plots, manifest.json, and journal.jsonl, from which --resume goes on.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    top = argparse.ArgumentParser(
        prog="kerasnorm-search",
        description="Which normalization should this network use on this data, and how sure are "
        "we? Searches on the training and validation parts, then trains the best norms and the "
        "plain ones on new seeds and compares them on the test part.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    network = top.add_argument_group("what is searched").add_mutually_exclusive_group()
    network.add_argument(
        "--arch",
        metavar="NAME",
        help="an architecture of kerasnorm.models, such as resnet20 (default: resnet8)",
    )
    network.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="a function of a norm spec that returns a Keras model, or a Keras model; MODULE is "
        "importable, or the path of a .py file",
    )
    what = top.add_argument_group("data")
    what.add_argument(
        "--data",
        default="digits",
        metavar="NAME",
        help="digits (default), multidomain, the path of an .npz file with x_train, y_train, "
        "x_test, y_test (x_val, y_val) or x, y, or tfds:NAME for one of tensorflow_datasets",
    )
    what.add_argument("--data-dir", metavar="DIR", help="where tensorflow_datasets keeps its files")
    what.add_argument(
        "--image-size", type=_size, metavar="HxW", help="resize images of tensorflow_datasets"
    )
    what.add_argument("--augment", action="store_true", help="pad, crop at random, and flip")
    space = top.add_argument_group("space")
    space.add_argument(
        "--norms",
        metavar="A,B,...",
        help="which norms; the default is all: batch, group, instance, layer, ilm_group, "
        "ilm_instance, ilm_layer, associate, mode, mode_group, conv, learned_stats",
    )
    space.add_argument(
        "--placements",
        default="all,first,stages",
        metavar="A,B,...",
        help="where: all (norms), first (and batch norm for the rest), stages (default: all three)",
    )
    space.add_argument(
        "--learning-rates",
        type=_numbers(float),
        metavar="A,B,...",
        help="search the learning rate too, the default first",
    )
    space.add_argument(
        "--batch-sizes", type=_numbers(int), metavar="A,B,...", help="search the batch size too"
    )
    space.add_argument(
        "--transforms",
        metavar="A,B,...",
        help="Consistent Normalization too: search how many of these transformations of the "
        "images get branches of their own, in this order; scale_and_pad, blur, noise, cutout, "
        "resize, random_crop, some with a number, such as blur:1.5,cutout:8",
    )
    space.add_argument("--show-space", action="store_true", help="print the space and end")
    how = top.add_argument_group("search")
    how.add_argument(
        "--oracle",
        default="tpe",
        metavar="NAME",
        help="tpe (default), random, bayesian, hyperband or grid",
    )
    how.add_argument("--trials", type=int, default=20, help="at most this many (default: 20)")
    how.add_argument(
        "--budget", type=float, metavar="SECONDS", help="for the trials; the answer comes after it"
    )
    how.add_argument("--epochs", type=int, default=10, help="of a full training (default: 10)")
    how.add_argument("--batch-size", type=int, default=64, help="(default: 64)")
    how.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam (default: 0.001)")
    how.add_argument(
        "--objective",
        default="val_error",
        metavar="NAME",
        help="val_error (default), val_loss, val_accuracy, or another metric as NAME:min, NAME:max",
    )
    how.add_argument(
        "--no-early-stopping", action="store_true", help="train bad trials to their end too"
    )
    how.add_argument(
        "--seed", type=int, default=0, help="of the proposals and the trials (default: 0)"
    )
    answer = top.add_argument_group("answer")
    answer.add_argument(
        "--seeds", type=int, default=5, help="new seeds for the comparison (default: 5; 0: none)"
    )
    answer.add_argument(
        "--candidates", type=int, default=3, help="how many of the best are compared (default: 3)"
    )
    answer.add_argument(
        "--ablation",
        type=int,
        default=2,
        help="around the best of these that has hyperparameters, other values of each of them to "
        "train with, one changed at a time (default: 2; 0: none)",
    )
    where = top.add_argument_group("running")
    where.add_argument("--executor", default="inline", metavar="NAME", help="inline (default)")
    where.add_argument(
        "--out", default="search-results", metavar="DIR", help="(default: search-results)"
    )
    where.add_argument("--resume", action="store_true", help="go on with the search in --out")
    where.add_argument(
        "--backend", choices=BACKENDS, help="of Keras (default: KERAS_BACKEND, or Keras's own)"
    )
    where.add_argument(
        "--width", type=int, help="of the architecture's first stage, where it has such an argument"
    )
    where.add_argument(
        "--no-jit", action="store_true", help="do not let Keras compile with XLA: small networks"
    )
    where.add_argument(
        "--deterministic", action="store_true", help="only operations that repeat bit for bit"
    )
    where.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: as on the command line; None takes those.

    Returns:
        The exit status: 0, 2 for what was refused, 1 for other failures, 130 for Ctrl-C.
    """
    options = parser().parse_args(arguments)
    if options.backend:
        if "keras" in sys.modules and _backend() != options.backend:
            return _refuse(
                BadInput(f"--backend {options.backend}, and Keras runs on {_backend()} already.")
            )
        os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return _run(options)
    except Interrupted as error:
        return _refuse(error, 130)
    except SearchError as error:
        if options.debug:
            raise
        return _refuse(error, 2 if isinstance(error, ValueError) else 1)
    except KeyboardInterrupt:
        return _refuse(SearchError("Interrupted."), 130)


def _refuse(error, status=2):
    sys.stderr.write(f"kerasnorm-search: {error}\n")
    return status


def _run(options):
    if options.arch is None and options.model is None:
        options.arch = "resnet8"
    import keras
    from rich.console import Console

    from search import running
    from search.data import load
    from search.hypermodel import NormHyperModel

    if options.deterministic:
        _be_deterministic()
    console = Console()
    network = options.arch or _loaded(options.model)
    arguments = None if options.width is None else {"width": options.width}
    common = {
        "norms": options.norms,
        "placements": options.placements,
        "learning_rates": options.learning_rates,
        "batch_sizes": options.batch_sizes,
        "transforms": options.transforms
        and [None, *map(_transform, options.transforms.split(","))],
    }
    if options.show_space:
        data = load(options.data, options.data_dir, options.image_size)
        shapes = {"input_shape": data.input_shape, "classes": data.classes}
        model = NormHyperModel(network, arguments=arguments, **shapes, **common)
        console.print(str(model.space), markup=False, highlight=False, soft_wrap=True)
        return 0
    result = running.run(
        network,
        data=options.data,
        oracle=options.oracle,
        trials=options.trials,
        budget=options.budget,
        epochs=options.epochs,
        seeds=options.seeds,
        objective=options.objective,
        executor=options.executor,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        candidates=options.candidates,
        ablation=options.ablation,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        augmentation=True if options.augment else None,
        early_stopping=not options.no_early_stopping,
        jit_compile=False if options.no_jit else "auto",
        data_dir=options.data_dir,
        image_size=options.image_size,
        arguments=arguments,
        command=replay(options, keras.backend.backend()),
        console=console,
        **common,
    )
    _print_result(console, result)
    return 0


def _backend():
    import keras

    return keras.backend.backend()


def _be_deterministic():
    """Only operations that repeat bit for bit, where the backend has such a switch."""
    from kerasnorm.core import backends

    backends.be_deterministic()


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
    key = name.lower().replace("_", "").replace("-", "")
    if key not in known:
        raise unknown("transform", name, sorted(one.__name__ for one in known.values()))
    try:
        given = (json.loads(number),) if separator else ()
        return known[key](*given)
    except (TypeError, ValueError) as error:
        raise BadInput(f"--transforms {text!r}: {error}") from error


def _loaded(place):
    """What `MODULE:FUNCTION` names."""
    module_name, separator, attribute = place.rpartition(":")
    if not separator or not module_name or not attribute:
        raise BadInput(f"--model {place!r}. Needed: MODULE:FUNCTION, such as my_models:build.")
    try:
        if module_name.endswith(".py"):
            module = _module_of_file(module_name)
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(module_name)
    except (ImportError, OSError) as error:
        raise BadInput(f"--model {place!r}: {error}.") from error
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise unknown(f"--model {place!r}: the name", attribute, known)
    return getattr(module, attribute)


def _module_of_file(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise OSError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def replay(options, backend):
    """The command that does the same again, in a new folder."""
    command = [sys.executable, "-m", "search", "--backend", backend]
    defaults = parser()
    for action in defaults._actions:
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
        else:
            command += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return [*command, "--out", f"{options.out}-again"]


def _print_result(console, result):
    """The table and the answer, in the terminal."""
    from rich.table import Table
    from rich.text import Text

    rows, runs = result.rows, result.runs
    counts = {s: sum(r["status"] == s for r in rows) for s in ("completed", "stopped", "failed")}
    table = Table("norm", "trial", result.manifest["objective"], "parameters", "step")
    sign = -1 if result.manifest["direction"] == "max" else 1
    done = [row for row in rows if row["status"] == "completed"]
    for row in sorted(done, key=lambda row: sign * row["score"])[:10]:
        step = row["step_seconds"]
        table.add_row(
            Text(row["words"]),
            str(row["trial"] + 1),
            f"{row['score']:.4f}",
            f"{row['parameters']:,}",
            "" if step is None else f"{1000 * step:.2f} ms",
        )
    console.print(table)
    overhead = result.manifest["overhead"]
    work = (
        f"{len(rows)} trials ({', '.join(f'{n} {s}' for s, n in counts.items() if n)}), "
        f"{sum(r['epochs'] for r in rows):,} epochs; {len(runs)} trainings for the answer, "
        f"{sum(r['epochs'] for r in runs):,} epochs."
    )
    if overhead["fit_seconds"]:
        work += f" Outside of training: {100 * overhead['share']:.1f} % of the search."
    console.print(work, highlight=False)
    if result.answer is not None:
        console.print(str(result.answer.sentence), style="bold", markup=False, highlight=False)
        console.print(f"{result.folder / 'report.html'}", highlight=False, soft_wrap=True)


def _size(text):
    """`32x48` as (32, 48)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no size. Needed: HxW, such as 32x32")
    return int(parts[0]), int(parts[1])


def _numbers(kind):
    """A type for numbers with commas."""

    def convert(text):
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}. Needed: numbers with commas") from None

    return convert
