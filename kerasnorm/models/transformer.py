"""Small Transformer encoders."""

import keras
from keras import ops

from kerasnorm.core.layer import PACKAGE
from kerasnorm.models.network import Network


@keras.saving.register_keras_serializable(PACKAGE)
class SinePositions(keras.layers.Layer):
    """Adds a sine or cosine of the position to each feature; nothing to learn, any length.

    Input and output shape: `(batch, length, features)`.

    Example:
        >>> import numpy as np
        >>> from kerasnorm.models.transformer import SinePositions
        >>> SinePositions()(np.zeros((1, 2, 4), "float32"))[0, 0].shape == (4,)
        True

    Reference:
        Vaswani et al., 2017: https://arxiv.org/abs/1706.03762, section 3.5
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Add."""
        length, features = ops.shape(inputs)[1], inputs.shape[-1]
        positions = ops.cast(ops.arange(length), "float32")[:, None]
        number = ops.arange(features, dtype="float32")[None]
        pair = ops.floor(number / 2)
        angles = positions * ops.exp(-9.210340371976184 * 2 * pair / features)  # log(10000)
        waves = ops.where(number == 2 * pair, ops.sin(angles), ops.cos(angles))
        return inputs + ops.cast(waves, inputs.dtype)[None]

    def compute_output_shape(self, input_shape):
        """That of the inputs."""
        return input_shape


def TransformerEncoder(
    input_shape,
    classes,
    norm="batch",
    vocabulary=None,
    blocks=2,
    width=64,
    heads=4,
    hidden=None,
    dropout=0.1,
    placement="pre",
    mask_value=0.0,
    classifier_activation="softmax",
    name="TransformerEncoder",
):
    """A Transformer encoder that classifies sequences, of features or of tokens.

    Norms see `(batch, length, width)`. Here `"layer"` is over positions and features, as in this
    package's images; the one of each position by itself is `"keras_layer"`.

    Padding counts nowhere: attention, norms that take a mask, and the average over the sequence
    leave it out. An example of nothing but padding has no average: it must not occur.

    Args:
        input_shape: `(length, features)`, or with a vocabulary `(length,)`; the length may be None.
        classes: how many.
        norm: a norm spec, or several; each block is a stage, with two norms. The norm after the
            last block of placement `"pre"` belongs to it.
        vocabulary: how many tokens there are, with 0, which is padding; None for features.
        blocks: of attention and two dense layers.
        width: features inside.
        heads: of the attention; they divide the width.
        hidden: units between the two dense layers; None is four times the width.
        dropout: of attention, and after it and the dense layers.
        placement: `"pre"`, before attention and dense layers, or `"post"`, after adding them.
        mask_value: positions of which all features have this value are padding; None for none.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from kerasnorm import models
        >>> model = models.TransformerEncoder((None,), 3, "group", vocabulary=100, width=32)
        >>> padded, alone = (
        ...     model(np.array(tokens, "int32")) for tokens in ([[5, 7, 0, 0]], [[5, 7]])
        ... )
        >>> bool(np.allclose(*map(keras.ops.convert_to_numpy, (padded, alone)), atol=1e-5))
        True

    Reference:
        Vaswani et al., 2017: https://arxiv.org/abs/1706.03762
    """
    net = Network(name, norm, blocks)
    x = _encoded(
        net, input_shape, vocabulary, blocks, width, heads, hidden, dropout, placement, mask_value
    )
    x = net(keras.layers.GlobalAveragePooling1D("channels_last", name="pool"), x)
    return net.model(net.classifier(x, classes, classifier_activation))


def Transformer(
    input_shape,
    classes,
    norm="batch",
    vocabulary=None,
    blocks=2,
    width=64,
    heads=4,
    hidden=None,
    dropout=0.1,
    placement="pre",
    classifier_activation="softmax",
    name="Transformer",
):
    """A Transformer encoder that gives a token for each position, all positions at once.

    It translates where source and target are as long, and it tags. Nothing that was written is
    read again, so no norm can see a token that is still to come: the norms of this package take
    statistics of all positions, and a decoder that is taught with the target would be shown it.

    Norms and padding are as in `TransformerEncoder`. What it gives for padding has no meaning.

    Args:
        input_shape: `(length,)` of tokens; the length may be None.
        classes: how many tokens the target may have, with 0, which is padding.
        norm: a norm spec, or several; each block is a stage, as in `TransformerEncoder`.
        vocabulary: how many tokens there are in the source, with 0; None is as many as `classes`.
        blocks, width, heads, hidden, dropout, placement: as in `TransformerEncoder`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> model = models.Transformer((None,), 12, "group", width=32)
        >>> model.output_shape
        (None, None, 12)

    Reference:
        Vaswani et al., 2017: https://arxiv.org/abs/1706.03762, the encoder
    """
    net = Network(name, norm, blocks)
    vocabulary = classes if vocabulary is None else vocabulary
    x = _encoded(net, input_shape, vocabulary, blocks, width, heads, hidden, dropout, placement)
    return net.model(net.classifier(x, classes, classifier_activation))


def _encoded(
    net,
    input_shape,
    vocabulary,
    blocks,
    width,
    heads,
    hidden,
    dropout,
    placement,
    mask_value=None,
):
    """The features of each position after all blocks; arguments as of `TransformerEncoder`."""
    net.checked_count("blocks", blocks)
    width = net.checked_count("width", width)
    heads = net.checked_count("heads", heads)
    hidden = net.checked_count("hidden", 4 * width if hidden is None else hidden)
    net.checked_choice("placement", placement, ("pre", "post"))
    if width % heads:
        raise ValueError(
            f"{net.name}: heads={heads} do not divide width={width}. Needed: a divisor."
        )
    if vocabulary is None:
        x = net.input(input_shape, rank=2)
        if mask_value is not None:
            x = net(keras.layers.Masking(mask_value, name="padding"), x)
        x = net(keras.layers.Dense(width, name="embedding"), x)
    else:
        x = net.input(input_shape, rank=1, dtype="int32")
        tokens = net.checked_count("vocabulary", vocabulary)
        x = net(keras.layers.Embedding(tokens, width, mask_zero=True, name="embedding"), x)
    x = net(SinePositions(name="positions"), x)
    for stage in range(blocks):
        for part in (_attention, _dense):
            prefix = f"block{stage + 1}{part.__name__}"
            branch = x
            if placement == "pre":
                branch = net.norm(branch, stage, f"{prefix}_norm", axis=-1)
            branch = part(net, branch, prefix, width, heads, hidden, dropout)
            branch = net(keras.layers.Dropout(dropout, name=f"{prefix}_dropout"), branch)
            x = net(keras.layers.Add(name=f"{prefix}_add"), [x, branch])
            if placement == "post":
                x = net.norm(x, stage, f"{prefix}_norm", axis=-1)
    if placement == "pre":
        x = net.norm(x, blocks - 1, "last_norm", axis=-1)
    return x


def _attention(net, x, prefix, width, heads, hidden, dropout):
    """Attention of a sequence to itself."""
    del hidden
    layer = keras.layers.MultiHeadAttention(heads, width // heads, dropout=dropout, name=prefix)
    return net(layer, x, x)


def _dense(net, x, prefix, width, heads, hidden, dropout):
    """Two dense layers."""
    del heads, dropout
    x = net(keras.layers.Dense(hidden, "relu", name=f"{prefix}1"), x)
    return net(keras.layers.Dense(width, name=f"{prefix}2"), x)
