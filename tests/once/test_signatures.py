"""The constructors of layers, as a user, `help` and an editor see them."""

import inspect
import json
import pathlib
import re
import subprocess
import sys

import keras
import pytest

import kerasnorm
from kerasnorm.core.layer import Normalization
from layer_table import LAYERS, own_defaults

ROOT = pathlib.Path(__file__).parents[2]
COMMON = inspect.signature(Normalization).parameters
# Beyond every Keras layer: what the author of a norm writes, and what a layer tells.
PUBLIC_METHODS = {
    "build_weights",
    "coefficients",
    "complete",
    "fit_bounds",
    "fit_choices",
    "groups_of",
    "key_groups_of",
    "needed_weights",
    "rescaling",
    "spatial_weights",
    "standardization",
    "start_as",
    "start_fit",
}


@pytest.fixture(params=LAYERS, ids=str)
def layer_class(request):
    """Every layer's class."""
    return getattr(kerasnorm, request.param.name)


def test_the_common_arguments_come_last_and_are_the_same_everywhere(layer_class):
    parameters = inspect.signature(layer_class).parameters
    assert list(parameters)[-len(COMMON) :] == list(COMMON)
    own = own_defaults(layer_class.__name__)
    for name, common in COMMON.items():
        default = own.get(name, common.default)
        assert parameters[name] == common.replace(default=default)
    for name, default in own.items():
        assert parameters[name].default == default


def test_what_a_class_hands_on_is_what_the_class_above_takes(layer_class):
    parameters = inspect.signature(layer_class).parameters
    for ancestor in layer_class.__mro__:
        if issubclass(ancestor, Normalization) and "__init__" in vars(ancestor):
            for name, parameter in inspect.signature(ancestor).parameters.items():
                assert parameter.annotation is not parameter.empty, f"{ancestor}: {name}"
                if name != "kwargs":
                    assert parameters[name].annotation == parameter.annotation, ancestor


def test_the_docstring_describes_each_argument_once(layer_class):
    arguments = re.search(r"^    Args:\n(.*?)\n\n", layer_class.__doc__, re.DOTALL | re.MULTILINE)[
        1
    ]
    described = re.findall(r"^ {8}\**(\w+):", arguments, re.MULTILINE)
    assert sorted(described) == sorted(inspect.signature(layer_class).parameters)


def test_internals_are_not_public(layer_class):
    # A weight that is None until the layer is built is no internal: users read it.
    public = {
        name
        for name in dir(layer_class)
        if not name.startswith("_") and getattr(layer_class, name) is not None
    }
    assert public - set(dir(keras.layers.Layer)) <= PUBLIC_METHODS


RIGHT = """
import keras

import kerasnorm

inputs = keras.Input((8, 8, 32))
batch = kerasnorm.BatchNorm(0.99, axis=1, epsilon=1e-3, dtype="float32", name="norm")
group = kerasnorm.GroupNorm(-1, 1, 1e-3, False, gamma_regularizer=keras.regularizers.L2(1e-4))
ilm = kerasnorm.ILMGroupNorm("auto", key_group_size=4, mean_activation=None, trainable=False)
conv = kerasnorm.ConvNorm([(2, 2), 4], gamma_initializer=keras.initializers.RandomNormal())
outputs = batch(ilm(inputs))
print(len(ilm.weights), kerasnorm.AssocNorm(bias_mode="before").get_config())


class Mine(kerasnorm.ModeNorm):
    def __init__(self, modes: int = 3, **kwargs):
        super().__init__(modes, epsilon=1e-3, **kwargs)
"""


def wrong_lines(names):
    """Calls that a checker must refuse, for each layer."""
    for name in names:
        for argument in ("axes=1", "dtyp='float32'", "epsilon='small'", "name=3"):
            yield f"kerasnorm.{name}({argument})"
    yield "kerasnorm.AssocNorm(bias_mode='behind')"
    yield "kerasnorm.GroupNorm(32, -1, 1e-3, 'yes')"


def mypy_of(path):
    """The lines in which mypy finds an error."""
    command = ["-m", "mypy", "--config-file=", "--ignore-missing-imports", "--no-incremental"]
    options = ["--follow-imports=silent", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, *command, *options, str(path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {int(line) for line in re.findall(r"^[^\n]*?:(\d+): error", done.stdout, re.MULTILINE)}


def pyright_of(path):
    """The lines in which pyright finds an error."""
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (path.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    options = ["--outputjson", "--project", str(path.parent), "--pythonpath", sys.executable]
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", *options], capture_output=True, text=True
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


@pytest.mark.parametrize("checker", [mypy_of, pyright_of])
def test_an_editor_sees_the_arguments(checker, tmp_path):
    wrong = list(wrong_lines([*(row.name for row in LAYERS), "AssocNorm"]))
    path = tmp_path / "user.py"
    path.write_text(RIGHT + "\n".join(wrong) + "\n")
    first = len(RIGHT.splitlines()) + 1
    assert checker(path) == set(range(first, first + len(wrong)))
