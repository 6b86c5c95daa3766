"""KerasHub 0.32.0: its layers make their norms themselves, and no argument names another norm.

Nothing public gives the norms of a layer, so the attributes that hold them stand here. The classes
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
