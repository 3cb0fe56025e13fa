"""Names of Mask2Former's weights: from mmsegmentation's, as published, to transformers'."""

from __future__ import annotations

import re

from torch import Tensor

PREFIX = 'decode_head.'
_DECODER = 'transformer_module.decoder.'
# In this order; \1 is a layer, \2 what follows.
_RULES = (
    (r'pixel_decoder\.input_convs\.(\d)\.conv\.', r'pixel_decoder.input_projections.\1.0.'),
    (r'pixel_decoder\.input_convs\.(\d)\.gn\.', r'pixel_decoder.input_projections.\1.1.'),
    (r'pixel_decoder\.lateral_convs\.0\.conv\.', r'pixel_decoder.adapter_1.0.'),
    (r'pixel_decoder\.lateral_convs\.0\.gn\.', r'pixel_decoder.adapter_1.1.'),
    (r'pixel_decoder\.output_convs\.0\.conv\.', r'pixel_decoder.layer_1.0.'),
    (r'pixel_decoder\.output_convs\.0\.gn\.', r'pixel_decoder.layer_1.1.'),
    (r'pixel_decoder\.mask_feature\.', r'pixel_decoder.mask_projection.'),
    (r'pixel_decoder\.level_encoding\.weight', r'pixel_decoder.level_embed'),
    (r'(pixel_decoder\.encoder\.layers\.\d\.)attentions\.0\.', r'\1self_attn.'),
    (r'(pixel_decoder\.encoder\.layers\.\d\.)norms\.0\.', r'\1self_attn_layer_norm.'),
    (r'(pixel_decoder\.encoder\.layers\.\d\.)norms\.1\.', r'\1final_layer_norm.'),
    (r'transformer_decoder\.post_norm\.', _DECODER + r'layernorm.'),
    (r'transformer_decoder\.(layers\.\d\.)attentions\.0\.attn\.', _DECODER + r'\1cross_attn.'),
    (r'transformer_decoder\.(layers\.\d\.)attentions\.1\.attn\.', _DECODER + r'\1self_attn.'),
    (r'transformer_decoder\.(layers\.\d\.)norms\.0\.', _DECODER + r'\1cross_attn_layer_norm.'),
    (r'transformer_decoder\.(layers\.\d\.)norms\.1\.', _DECODER + r'\1self_attn_layer_norm.'),
    (r'transformer_decoder\.(layers\.\d\.)norms\.2\.', _DECODER + r'\1final_layer_norm.'),
    (r'transformer_decoder\.', _DECODER),
    (r'(layers\.\d\.)ffns\.0\.layers\.0\.0\.', r'\1fc1.'),
    (r'(layers\.\d\.)ffns\.0\.layers\.1\.', r'\1fc2.'),
    (r'^query_embed\.', r'transformer_module.queries_embedder.'),
    (r'^query_feat\.', r'transformer_module.queries_features.'),
    (r'^level_embed\.', r'transformer_module.level_embed.'),
    (r'^cls_embed\.', r'class_predictor.'),
    (r'^mask_embed\.0\.', _DECODER + r'mask_predictor.mask_embedder.0.0.'),
    (r'^mask_embed\.2\.', _DECODER + r'mask_predictor.mask_embedder.1.0.'),
    (r'^mask_embed\.4\.', _DECODER + r'mask_predictor.mask_embedder.2.0.'),
)


def convert_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of ``Mask2FormerHead`` out of those of a whole published network.

    Queries, keys and values of self-attention are one matrix there and three here. What is not
    the head's is left out.
    """
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(PREFIX):
            continue
        renamed = name[len(PREFIX) :]
        for pattern, replacement in _RULES:
            renamed = re.sub(pattern, replacement, renamed)
        if 'self_attn.in_proj_' in renamed:
            for part, rows in zip('qkv', value.chunk(3), strict=True):
                converted[renamed.replace('in_proj_', f'{part}_proj.')] = rows
        else:
            converted[renamed] = value
    return converted
