"""What is under test is what was asked for."""

import os
import pathlib
import re
import tomllib

import keras
import pytest

PROJECT = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())


def version(text):
    """The leading numbers of a version, for comparison."""
    return tuple(int(number) for number in re.match(r"\d+(\.\d+)*", text)[0].split("."))


@pytest.mark.smoke
def test_keras_is_a_supported_version():
    (dependency,) = PROJECT["project"]["dependencies"]
    lowest = version(re.fullmatch(r"keras>=([\d.]+)", dependency)[1])
    assert version(keras.__version__) >= lowest
    expected = version(os.environ.get("EXPECT_KERAS", keras.__version__))
    assert version(keras.__version__)[: len(expected)] == expected


@pytest.mark.smoke
def test_the_backend_is_the_one_named():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", keras.backend.backend())
