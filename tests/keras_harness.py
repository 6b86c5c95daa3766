"""Keras's own tests of a layer. They are not public: nothing else imports them."""

import keras
from keras.src.testing import TestCase


def run_layer_test(layer_class, arguments, **expected):
    """Run what Keras runs on each of its own layers.

    Args:
        layer_class: the class of the layer.
        arguments: its constructor arguments.
        **expected: the harness's own arguments: `input_shape`, `expected_output_shape`, ...
    """
    filtering = keras.config.is_traceback_filtering_enabled()
    case = TestCase()
    try:
        case.setUp()
        case.run_layer_test(layer_class, arguments, **expected)
    finally:
        case.doCleanups()
        if filtering:
            keras.config.enable_traceback_filtering()


def run_serialization_test(layer):
    """Run Keras's check of `get_config`, `from_config` and the attributes that they leave."""
    return TestCase().run_class_serialization_test(layer)
