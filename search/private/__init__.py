"""What the search uses of KerasTuner that is not public.

Each use stands there once, with the version that it was written for and why nothing public will
do. A test asks whether all of it still exists. `kerasnorm.core.keras_internals` is that of Keras.
"""
