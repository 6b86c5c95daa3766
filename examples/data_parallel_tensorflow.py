"""Train a small ResNet with Mode Normalization on two devices, with TensorFlow.

    KERAS_BACKEND=tensorflow python examples/data_parallel_tensorflow.py

`MirroredStrategy` gives each device a part of every batch and a copy of the variables. With
`synchronized=True` the statistics are those of the whole batch; only they cross the devices. Two
parts of the CPU stand in for the GPUs that `MirroredStrategy()` would find by itself.
"""

import keras
import tensorflow as tf
from bars import shapes_and_labels

from kerasnorm import models

NORM = {"name": "mode", "modes": 2, "synchronized": True}

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

keras.utils.set_random_seed(0)
x, y = shapes_and_labels()
with strategy.scope():
    model = models.ResNet8((8, 8, 3), 2, norm=NORM, width=8)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
history = model.fit(data, epochs=2, verbose=0).history
devices = strategy.num_replicas_in_sync
print(f"{devices} devices, loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
