"""Train a small ResNet with Mode Normalization on two devices, with JAX.

    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python examples/data_parallel_jax.py

Keras's `DataParallel` spreads every batch over the devices, and each has a copy of the variables.
Arrays are global there: the statistics of a batch are those of all devices, whatever
`synchronized` says. On a machine with two GPUs no flag is needed.
"""

import jax
import keras
from bars import shapes_and_labels

from kerasnorm import models

NORM = {"name": "mode", "modes": 2, "synchronized": True}

keras.utils.set_random_seed(0)
keras.distribution.set_distribution(keras.distribution.DataParallel())

x, y = shapes_and_labels()
model = models.ResNet8((8, 8, 3), 2, norm=NORM, width=8)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, batch_size=32, epochs=2, verbose=0).history
print(f"{len(jax.devices())} devices, loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
