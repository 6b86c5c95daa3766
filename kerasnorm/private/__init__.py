"""What the package uses of other packages that is not public, one module for each of them.

A test asks whether all of it still exists. `kerasnorm.core.keras_internals` is that of Keras.
"""
