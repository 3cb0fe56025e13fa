"""Mask2Former's decoders as transformers builds them, on any backbone of four levels.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022.
Importing this module takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from offroad_seg_core.models.contract import QueryPredictions


class Mask2FormerHead(Mask2FormerPreTrainedModel):
    """Predict masks and their classes, once before the first of nine layers and after each.

    Six layers of multi-scale deformable attention on strides 8 to 32, one level more to stride 4;
    feed-forward layers of 2048 in both decoders, as FlashInternImage was published with.

    Args:
        in_channels: Of four feature maps at strides 4 to 32.
        num_classes: Without the class of queries that show nothing.
        num_queries: Masks an image.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, num_queries: int) -> None:
        config = Mask2FormerConfig(num_queries=num_queries, encoder_feedforward_dim=2048)
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, list(in_channels))
        self.transformer_module = Mask2FormerTransformerModule(config.feature_size, config)
        self.class_predictor = nn.Linear(config.hidden_dim, num_classes + 1)
        self.post_init()

    def forward(self, features: Sequence[Tensor]) -> QueryPredictions:
        """Return the predictions of all ten stages from ``(N, C_i, H_i, W_i)`` float32 maps."""
        decoded = self.pixel_decoder(list(features))
        layers = self.transformer_module(decoded.multi_scale_features, decoded.mask_features)
        states = layers.intermediate_hidden_states
        return QueryPredictions(
            tuple(self.class_predictor(state.transpose(0, 1)) for state in states),
            layers.masks_queries_logits,
        )
