"""The command `kerasnorm-convert`: another norm for a saved model."""

import argparse
import importlib.util
import json
import os
import pathlib
import sys
import tempfile

import keras
import numpy as np

from kerasnorm.conversion.convert import convert

EPILOG = """\
examples:
  kerasnorm-convert model.keras --data images.npz --out converted.keras
  kerasnorm-convert model.keras --norm ilm_layer --data images.npy --out converted.keras
  kerasnorm-convert model.keras --norm layer,group --data images.npz --out converted.keras
  kerasnorm-convert model.keras --data images/ --out converted.keras
  kerasnorm-convert model.keras --data mine.py:examples --out converted.keras

--data is one of these:
  an .npy file with the inputs;
  an .npz file with x (or x_train), or with an array under the name of each input of the model. The
  array y (or y_train) holds labels, which serve the report only;
  a folder of images, which are brought to the size of the model's input. Pixels are from 0 to 255,
  times --scale. Folders inside it are classes, in the order of their names;
  FILE.py:FUNCTION, a function without arguments. It returns inputs or batches as `convert` takes
  them, or a dictionary of the arrays of an .npz file.

The report goes beside --out, as a .txt file and, with matplotlib, as a .png picture. KERAS_BACKEND
chooses Keras's backend.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        raise ValueError(f"{message.removeprefix('argument ')}. --help lists the options.")


def parser():
    """The parser of the command."""
    top = _Parser(
        prog="kerasnorm-convert",
        description="Give a trained model other norms and keep what it computes, without training "
        "it again.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("model", metavar="MODEL", help="a saved model, a .keras file")
    top.add_argument(
        "--norm",
        default="best",
        metavar="SPEC",
        help="a norm such as ilm_layer, several as A,B,... of which the best is taken, a norm with "
        'arguments as JSON such as \'{"name": "group", "groups": 4}\', none for no norm, or best '
        "(default): try those that look at one example at a time",
    )
    top.add_argument(
        "--data", required=True, metavar="PLACE", help="examples: a file, a folder, or a function"
    )
    top.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="of the pixels in a folder of images, such as 0.00392157 for 1/255 (default: 1)",
    )
    top.add_argument("--out", required=True, metavar="FILE", help="the new model, a .keras file")
    top.add_argument("--where", metavar="PATTERN", help="the norms to convert (default: all)")
    top.add_argument(
        "--examples", type=int, default=512, metavar="N", help="how many at most (default: 512)"
    )
    top.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: 64)")
    top.add_argument(
        "--budget",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="how many more weights the model may get (default: 0.05, so 5 %%)",
    )
    top.add_argument(
        "--steps",
        type=int,
        default=0,
        metavar="N",
        help="steps of training on the old predictions afterwards (default: 0)",
    )
    top.add_argument(
        "--train", choices=("norms", "all"), default="norms", help="in these (default: norms)"
    )
    top.add_argument("--quiet", action="store_true", help="show no progress")
    return top


def main(arguments=None):
    """Run the command.

    Args:
        arguments: as on the command line; None takes those.

    Returns:
        The exit status: 0, 2 for what was refused, 1 for other failures, 130 for Ctrl-C.
    """
    try:
        return _run(parser().parse_args(arguments))
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error, 2)
    except ImportError as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        return _refuse("Interrupted. Nothing was written.", 130)


def _refuse(error, status):
    sys.stderr.write(f"kerasnorm-convert: {' '.join(str(error).split())}\n")
    return status


def _run(options):
    out = pathlib.Path(options.out)
    for name, path in (("MODEL", options.model), ("--out", options.out)):
        if not path.endswith(".keras"):
            raise ValueError(f"{name} {path!r}. Needed: the path of a .keras file.")
    if not os.path.isfile(options.model):
        raise ValueError(
            f"MODEL {options.model!r} is no file. Needed: the path of one that exists."
        )
    if not os.path.exists(_place_of(options.data)):
        raise ValueError(
            f"--data {options.data!r} is not there. Needed: a file or a folder that exists, or "
            "FILE.py:FUNCTION."
        )
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {options.out!r}. Needed: a folder that exists.")
    spec = _spec(options.norm)
    model = keras.saving.load_model(options.model)
    x, y = _data(options, model)
    new = convert(
        model,
        spec,
        x,
        y,
        where=options.where,
        examples=options.examples,
        batch_size=options.batch_size,
        budget=options.budget,
        steps=options.steps,
        train=options.train,
        verbose=0 if options.quiet else 1,
    )
    report = str(new.norm_report)
    # Written whole or not at all.
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as folder:
        whole = pathlib.Path(folder) / out.name
        new.save(whole)
        os.replace(whole, out)
    written = [out, out.with_suffix(".txt")]
    written[1].write_text(f"{report}\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        written.append(out.with_suffix(".png"))
        new.norm_report.figure(written[-1])
    sys.stdout.write("\n".join([report, *map(str, written), ""]))
    return 0


def _spec(text):
    """The spec, or the list of them, that --norm gives."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(
                f'--norm {text!r}: {error}. Needed: JSON such as {{"name": "group", "groups": 4}}.'
            ) from error
    words = [word.strip() for word in text.split(",")]
    if words == ["best"]:
        return "best"
    specs = [None if word == "none" else word for word in words]
    return specs if len(specs) > 1 else specs[0]


def _place_of(data):
    """The file or the folder that --data names."""
    file, _, function = data.rpartition(":")
    return file if file.endswith(".py") and function.isidentifier() else data


def _data(options, model):
    """The inputs or batches, and the labels or None."""
    path = options.data
    if _place_of(path) != path:
        found = _returned(*path.rsplit(":", 1))
        return _named(path, found, model) if isinstance(found, dict) else (found, None)
    if os.path.isdir(path):
        return _images(path, model, options), None
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(
            f"--data {path!r}: {error} Needed: an .npz or .npy file, a folder of images, or "
            "FILE.py:FUNCTION."
        ) from error
    if isinstance(found, np.ndarray):
        return found, None
    with found:
        return _named(path, {name: found[name] for name in found.files}, model)


def _named(path, arrays, model):
    """The inputs and the labels among named arrays."""
    labels = next((arrays[name] for name in ("y", "y_train") if name in arrays), None)
    names = [tensor.name for tensor in model.inputs]
    if set(names) <= set(arrays):
        inputs = {name: arrays[name] for name in names}
        return (inputs if len(names) > 1 else inputs[names[0]]), labels
    for name in ("x", "x_train"):
        if name in arrays:
            return arrays[name], labels
    raise ValueError(
        f"--data {path!r} has the arrays {', '.join(arrays)}. Needed: x, or {', '.join(names)}."
    )


def _returned(path, name):
    """What a function in a file returns."""
    place = importlib.util.spec_from_file_location("kerasnorm_data", path)
    module = importlib.util.module_from_spec(place)
    try:
        place.loader.exec_module(module)
        return getattr(module, name)()
    except Exception as error:
        raise ValueError(
            f"--data {path}:{name}: {type(error).__name__}: {error}. Needed: a function without "
            "arguments that returns data."
        ) from error


def _images(folder, model, options):
    """Batches of the images in a folder, in a random order that is always the same."""
    (tensor, *others) = model.inputs
    first = keras.config.image_data_format() == "channels_first"
    *size, channels = (*tensor.shape[2:], tensor.shape[1]) if first else tensor.shape[1:]
    if others or len(size) != 2 or channels not in (1, 3, 4) or None in size:
        shapes = ", ".join(str(one.shape) for one in model.inputs)
        raise ValueError(
            f"--data {folder!r} with inputs of shape {shapes}. Needed for a folder of images: a "
            "model with one input of a known height and width, and 1, 3 or 4 channels."
        )
    classes = sorted(one.name for one in pathlib.Path(folder).iterdir() if one.is_dir())
    try:
        images = keras.utils.image_dataset_from_directory(
            folder,
            labels="inferred" if classes else None,
            color_mode={1: "grayscale", 3: "rgb", 4: "rgba"}[channels],
            batch_size=options.batch_size,
            image_size=tuple(size),
            seed=0,
            verbose=False,
        )
    except ImportError as error:
        raise ImportError(
            f"--data {folder!r}: {error} Needed for a folder of images: TensorFlow, which reads "
            "them, or an .npz or .npy file."
        ) from error
    return _scaled(images, bool(classes), options.scale)


def _scaled(batches, labelled, scale):
    for batch in batches:
        x, y = batch if labelled else (batch, None)
        x = scale * np.asarray(x)
        yield (x, np.asarray(y)) if labelled else x
