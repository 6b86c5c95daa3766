"""Every layer passes the tests that Keras has for its own."""

import keras
import numpy as np
import pytest

import kerasnorm
from keras_harness import run_layer_test, run_serialization_test
from layer_table import LAYERS, ROWS, cases, full_config, is_statistic

REGULARIZED = {"gamma_regularizer": "l2", "beta_regularizer": "l1"}


def expected_weights(row, arguments, input_shape):
    """How many trainable and how many other weights the table promises."""
    names = row.weight_shapes(arguments, input_shape)
    moving = sum(map(is_statistic, names))
    return {
        "expected_num_trainable_weights": len(names) - moving,
        "expected_num_non_trainable_weights": moving,
        "expected_num_non_trainable_variables": moving,
        "expected_num_seed_generators": 0,
    }


def check(row, arguments, input_shape, losses=0, **options):
    """Run the harness with all that is known of the layer."""
    run_layer_test(
        getattr(kerasnorm, row.name),
        arguments,
        input_shape=input_shape,
        expected_output_shape=input_shape,
        expected_output_dtype="float32",
        expected_num_losses=losses,
        supports_masking=True,
        **expected_weights(row, arguments, input_shape),
        **options,
    )


@pytest.mark.smoke
@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_channels_last(row):
    check(row, row.arguments, row.input_shape())


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_channels_first_and_regularized(row):
    arguments = {**row.arguments, **REGULARIZED, "axis": 1}
    config = full_config(row.name, arguments)
    # Training and half precision check nothing here that they do not with channels last.
    check(
        row,
        arguments,
        row.input_shape(axis=1),
        losses=config["center"] + config["scale"],
        run_training_check=False,
        run_mixed_precision_check=False,
    )


@pytest.mark.parametrize("row", [row for row in LAYERS if row.ranks != (4,)], ids=str)
def test_rank_2(row):
    check(
        row,
        row.arguments,
        row.input_shape(rank=2),
        run_training_check=False,
        run_mixed_precision_check=False,
    )


@pytest.mark.parametrize(("row", "variant"), cases())
def test_configuration_of_every_variant(row, variant):
    run_serialization_test(getattr(kerasnorm, row.name)(**row.variants[variant]))


@pytest.mark.parametrize("axis", [-1, 1])
def test_consistent_norm(axis):
    row = ROWS["BatchNorm"]
    shape = row.input_shape(axis=axis)
    run_layer_test(
        kerasnorm.ConsistentNorm,
        {"norm": kerasnorm.BatchNorm(axis=axis, **REGULARIZED), "branches": 3},
        input_shape=shape,
        expected_output_shape=shape,
        expected_output_dtype="float32",
        expected_num_trainable_weights=6,
        expected_num_non_trainable_weights=6,
        expected_num_non_trainable_variables=6,
        expected_num_seed_generators=0,
        expected_num_losses=6,
        supports_masking=True,
    )


@pytest.mark.parametrize("norm", ["BatchNormalization", "GroupNormalization", "LayerNormalization"])
def test_consistent_norm_of_a_layer_of_keras(norm):
    copied = getattr(keras.layers, norm)(**({"groups": 2} if norm.startswith("Group") else {}))
    run_layer_test(
        kerasnorm.ConsistentNorm,
        {"norm": copied, "branches": 2},
        input_data=np.ones((2, 3, 4), "float32"),
        expected_output_shape=(2, 3, 4),
        expected_num_trainable_weights=4,
        expected_num_non_trainable_weights=4 if norm.startswith("Batch") else 0,
        expected_num_losses=0,
        supports_masking=True,
        # Its training leaves branch 1 without gradients, of which Keras warns.
        run_training_check=False,
    )
