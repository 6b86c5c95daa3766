"""KerasHub 0.32.0: its layers make their norms themselves, and no argument names another norm.

Nothing public gives the norms of a layer, so the attributes that hold them stand here. Some layers
cannot be made from their own configuration, so what is wrong with it stands here too. The classes
are named and not imported: KerasHub is loaded by those who use it.
"""

# By the full name of a class, the attributes with its norms, or with layers that have norms, in the
# order in which the layer calls them.
COMPOSITES = {
    "keras_hub.src.layers.modeling.transformer_encoder.TransformerEncoder": (
        "_self_attention_layer_norm",
        "_feedforward_layer_norm",
    ),
    "keras_hub.src.layers.modeling.transformer_decoder.TransformerDecoder": (
        "_self_attention_layer_norm",
        "_cross_attention_layer_norm",
        "_feedforward_layer_norm",
    ),
    "keras_hub.src.layers.modeling.f_net_encoder.FNetEncoder": (
        "_mixing_layer_norm",
        "_output_layer_norm",
    ),
    "keras_hub.src.models.vit.vit_layers.ViTEncoderBlock": ("layer_norm_1", "layer_norm_2"),
    "keras_hub.src.models.vit.vit_layers.ViTEncoder": ("encoder_layers", "layer_norm"),
}

# By the full name of a class, the entries of its configuration that its constructor does not take,
# and those that it takes and that are attributes of the layer alone. KerasHub saves whole backbones
# and never meets them.
WRONG_ENTRIES = {
    "keras_hub.src.models.vit.vit_layers.ViTPatchingAndEmbedding": (
        ("num_patches", "num_positions"),
        ("use_patch_bias", "data_format"),
    ),
    "keras_hub.src.models.vit.vit_layers.ViTEncoderBlock": (("key_dim",), ()),
}
