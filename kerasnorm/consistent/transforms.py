"""Transformations of images, for the branches of `kerasnorm.ConsistentModel`."""

import math

import keras
from keras import ops

from kerasnorm.core.layer import PACKAGE


class Transform(keras.layers.Layer):
    """A transformation of a batch of images.

    A subclass defines `transform`, of float32 (or float64) images `(batch, height, width,
    channels)`.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; None is Keras's own setting.
        **kwargs: `name`, `dtype`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise self.error(
                f"data_format={data_format!r}", "'channels_last', 'channels_first' or None"
            )

    def transform(self, images):
        """The transformed images."""
        raise NotImplementedError(f"{type(self).__name__} has no `transform`")

    def call(self, inputs):
        """Transform, in float32 at least."""
        self.check_rank(inputs.shape)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not keras.backend.is_float_dtype(dtype):
            dtype = keras.config.floatx()
        first = self.data_format == "channels_first"
        images = ops.cast(inputs, "float64" if dtype == "float64" else "float32")
        images = ops.moveaxis(images, 1, -1) if first else images
        outputs = self.transform(images)
        return ops.cast(ops.moveaxis(outputs, -1, 1) if first else outputs, dtype)

    def compute_output_shape(self, input_shape):
        """The input shape, which most keep."""
        return input_shape

    def check_rank(self, shape):
        """Refuse what are not images."""
        if len(shape) != 4:
            raise self.error(f"the inputs have shape {tuple(shape)}", "a batch of images, rank 4")

    def sides_of(self, images):
        """Height and width, which must be known."""
        sides = tuple(images.shape[1:3])
        if None in sides:
            raise self.error(
                f"the images have shape {tuple(images.shape)}", "a height and width that are known"
            )
        return sides

    def error(self, received, legal):
        """A `ValueError` with what was received and what is legal."""
        return ValueError(f"{type(self).__name__} '{self.name}': {received}. Needed: {legal}.")

    def checked_number(self, argument, value, legal, least=0.0, most=math.inf):
        """A number above `least`, and not above `most`."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{argument}={value!r}", legal)
        if not (least < value <= most and math.isfinite(value)):
            raise self.error(f"{argument}={value!r}", legal)
        return value

    def checked_sides(self, size):
        """A size as two positive integers, as a list, which JSON keeps."""
        sides = [size, size] if isinstance(size, int) else size
        if (
            not isinstance(sides, (list, tuple))
            or len(sides) != 2
            or not all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sides)
        ):
            raise self.error(f"size={size!r}", "a positive integer or two, (height, width)")
        return list(sides)

    def resized(self, images, sides):
        """Images of another size, bilinear, without aliasing.

        As two matrix products: XLA on TensorFlow has no antialiased resizing.
        """
        rows, columns = (
            ops.convert_to_tensor(_triangles(old, new), dtype=images.dtype)
            for old, new in zip(self.sides_of(images), sides, strict=True)
        )
        return ops.einsum("qw,npwc->npqc", columns, ops.einsum("ph,nhwc->npwc", rows, images))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format}


class RandomTransform(Transform):
    """A transformation that differs from call to call, and from image to image.

    Args:
        seed: an integer, or None for one that differs from layer to layer.
        **kwargs: those of `Transform`.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def integers(self, images, below):
        """A random integer for each image, from 0 up to, but not including, `below`."""
        shape = (ops.shape(images)[0],)
        uniform = keras.random.uniform(shape, dtype="float32", seed=self.generator)
        # The product may be rounded up to `below`.
        return ops.minimum(ops.cast(uniform * below, "int32"), below - 1)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(PACKAGE)
class ScaleAndPad(Transform):
    """Make images smaller, and surround them with zeros up to their old size.

    With `scale=0.5`, 32x32 becomes 16x16 in the middle of 32x32 (section 3 of the paper).

    Args:
        scale: of the sides, above 0 and at most 1.
        **kwargs: `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> images = transforms.ScaleAndPad(0.5)(np.ones((1, 4, 4, 1), "float32"))
        >>> print(keras.ops.convert_to_numpy(images)[0, :, :, 0].round(2))
        [[0. 0. 0. 0.]
         [0. 1. 1. 0.]
         [0. 1. 1. 0.]
         [0. 0. 0. 0.]]
    """

    def __init__(self, scale=0.5, **kwargs):
        super().__init__(**kwargs)
        legal = "a number above 0 and at most 1"
        self.scale = self.checked_number("scale", scale, legal, most=1.0)

    def transform(self, images):
        """Resize, then pad."""
        sides = self.sides_of(images)
        small = [max(round(side * self.scale), 1) for side in sides]
        before = [(side - s) // 2 for side, s in zip(sides, small, strict=True)]
        padding = [(b, side - s - b) for side, s, b in zip(sides, small, before, strict=True)]
        return ops.pad(self.resized(images, small), [(0, 0), *padding, (0, 0)])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(PACKAGE)
class Resize(Transform):
    """Images of another size.

    Args:
        size: the new height and width; an integer is both.
        **kwargs: `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> images = transforms.Resize(24)(np.ones((1, 32, 32, 3), "float32"))
        >>> tuple(images.shape)
        (1, 24, 24, 3)
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = self.checked_sides(size)

    def transform(self, images):
        """Resize."""
        return self.resized(images, self.size)

    def compute_output_shape(self, input_shape):
        """With the new size."""
        return _with_sides(input_shape, self.size, self.data_format)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(PACKAGE)
class Blur(Transform):
    """A Gaussian filter. At the border it averages over what is inside of the image.

    Args:
        sigma: the filter's standard deviation, in pixels.
        **kwargs: `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> images = np.zeros((1, 5, 5, 1), "float32")
        >>> images[0, 2, 2, 0] = 1
        >>> print(keras.ops.convert_to_numpy(transforms.Blur(1.0)(images))[0, 2, :, 0].round(2))
        [0.03 0.1  0.16 0.1  0.03]
    """

    def __init__(self, sigma=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sigma = self.checked_number("sigma", sigma, "a number above 0")

    def transform(self, images):
        """One filter along the height, then one along the width."""
        radius = math.ceil(3 * self.sigma)
        weights = [math.exp(-0.5 * (i / self.sigma) ** 2) for i in range(-radius, radius + 1)]
        weights = ops.convert_to_tensor(weights, dtype=images.dtype)
        inside = ops.ones_like(images[:1, :, :, :1])
        for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
            kernel = ops.reshape(weights, shape)
            total = ops.depthwise_conv(inside, kernel, padding="same", data_format="channels_last")
            kernel = ops.tile(kernel, (1, 1, images.shape[-1], 1))
            images = ops.depthwise_conv(images, kernel, padding="same", data_format="channels_last")
            images = images / total
        return images

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "sigma": self.sigma}


@keras.saving.register_keras_serializable(PACKAGE)
class Noise(RandomTransform):
    """Gaussian noise, added to inputs of any rank.

    Args:
        stddev: its standard deviation.
        **kwargs: `seed`, `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> noise = transforms.Noise(0.5, seed=0)(np.zeros((1, 64, 64, 3), "float32"))
        >>> bool(abs(keras.ops.convert_to_numpy(noise).std() - 0.5) < 0.02)
        True
    """

    def __init__(self, stddev=0.1, **kwargs):
        super().__init__(**kwargs)
        self.stddev = self.checked_number("stddev", stddev, "a number above 0")

    def check_rank(self, shape):
        """Noise is added to anything."""

    def transform(self, images):
        """Add noise."""
        noise = keras.random.normal(
            ops.shape(images), stddev=self.stddev, dtype=images.dtype, seed=self.generator
        )
        return images + noise

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stddev": self.stddev}


@keras.saving.register_keras_serializable(PACKAGE)
class Cutout(RandomTransform):
    """A square of zeros anywhere in each image, partly outside of it too (DeVries and Taylor).

    Args:
        size: the square's height and width; an integer is both.
        **kwargs: `seed`, `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> images = transforms.Cutout(1)(np.ones((2, 8, 8, 1), "float32"))
        >>> keras.ops.convert_to_numpy(images).sum(axis=(1, 2, 3)).tolist()
        [63.0, 63.0]
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = self.checked_sides(size)

    def transform(self, images):
        """Zero what lies in the square around a random pixel of each image."""
        inside = [
            self._near(self.integers(images, side), side, size)
            for side, size in zip(self.sides_of(images), self.size, strict=True)
        ]
        square = ops.logical_and(inside[0][:, :, None, None], inside[1][:, None, :, None])
        return ops.where(square, ops.zeros_like(images), images)

    def _near(self, middle, side, size):
        """Which positions of a side lie in the stretch around the middle, for each image."""
        start = middle[:, None] - size // 2
        positions = ops.arange(side, dtype="int32")[None]
        return ops.logical_and(positions >= start, positions < start + size)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(PACKAGE)
class RandomCrop(RandomTransform):
    """A part of each image, at a random place, of a fixed size.

    Args:
        size: the height and width of what is cut out; an integer is both.
        **kwargs: `seed`, `data_format`, `name`, `dtype`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm import transforms
        >>> images = transforms.RandomCrop(24)(np.ones((1, 32, 32, 3), "float32"))
        >>> tuple(images.shape)
        (1, 24, 24, 3)
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = self.checked_sides(size)

    def transform(self, images):
        """Take the rows, then the columns, from a random first one of each image."""
        for axis, side, size in zip((1, 2), self.sides_of(images), self.size, strict=True):
            if side < size:
                raise self.error(
                    f"the images have shape {tuple(images.shape)}",
                    f"a height and width of at least {self.size}",
                )
            first = self.integers(images, side - size + 1)
            index = first[:, None] + ops.arange(size, dtype="int32")[None]
            index = ops.reshape(index, (-1, size, 1, 1) if axis == 1 else (-1, 1, size, 1))
            shape = list(ops.shape(images))
            shape[axis] = size
            images = ops.take_along_axis(images, ops.broadcast_to(index, shape), axis=axis)
        return images

    def compute_output_shape(self, input_shape):
        """With the new size."""
        return _with_sides(input_shape, self.size, self.data_format)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


def _with_sides(shape, sides, data_format):
    """A batch's shape with another height and width."""
    if data_format == "channels_first":
        return (shape[0], shape[1], *sides)
    return (shape[0], *sides, shape[3])


def _triangles(old, new):
    """What each old position weighs in each new one: a triangle around it, with sum 1."""
    step = old / new
    width = max(step, 1.0)
    matrix = []
    for position in range(new):
        middle = (position + 0.5) * step
        weights = [max(0.0, 1 - abs(other + 0.5 - middle) / width) for other in range(old)]
        matrix.append([weight / sum(weights) for weight in weights])
    return matrix
