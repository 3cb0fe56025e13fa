"""Names of the inputs and outputs of a bundle's graphs, see inference/label_head.py."""

IMAGES, CAMERA = 'images', 'camera'
"""Normalised float ``(N, 3, H, W)``; or uint8 ``(1, H, W, 3)`` of the graphs for GPUs."""
LOGIT_BIAS, TEMPERATURE = 'logit_bias', 'temperature'
LOGITS, LABEL_MAP, CONFIDENCE = 'logits', 'label_map', 'confidence'
