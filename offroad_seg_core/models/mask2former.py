"""Mask2Former for semantic segmentation, on any backbone of four levels. A teacher: no export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from offroad_seg_core.models.contract import QueryPredictions, check_images
from offroad_seg_core.models.mask2former_weights import convert_head
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports


class Mask2Former(nn.Module):
    """A backbone with ``Mask2FormerHead``.

    Args:
        backbone: As in ``UPerNet``.
        num_classes: Channels of the logits.
        num_queries: Masks that are predicted for an image.

    Raises:
        ValueError: Too few classes.
    """

    stride = 4
    classifiers = ('head.class_predictor.',)
    # What upstream's layer decay takes for embeddings of the backbone, see OptimizerConfig.
    query_weights = (
        'head.class_predictor.',
        'head.transformer_module.decoder.mask_predictor.',
        'head.transformer_module.level_embed.',
        'head.transformer_module.queries_embedder.',
        'head.transformer_module.queries_features.',
    )

    def __init__(self, backbone: Any, num_classes: int, *, num_queries: int = 200) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        ensure_torchvision_imports()
        from offroad_seg_core.models.mask2former_head import Mask2FormerHead

        self.backbone = backbone
        self.input_multiple: int = backbone.input_multiple
        self.encoder_name: str = backbone.name
        self.head = Mask2FormerHead(backbone.channels, num_classes, num_queries)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for."""
        return self.backbone.encoder

    def forward(self, images: Tensor) -> Tensor | QueryPredictions:
        """Return logits at stride 4; in training what the queries predict.

        Args:
            images: Normalised, ``(N, 3, H, W)`` float, H and W multiples of ``input_multiple``.

        Returns:
            ``(N, C, H / 4, W / 4)`` logarithms of probabilities, float32; or the predictions of
            ten stages, for the loss ``mask_set``.

        Raises:
            ValueError: H or W does not fit.
        """
        check_images(images, self.input_multiple)
        # Its positions are computed in the features' type: half precision would move them.
        predictions = self.head([level.float() for level in self.backbone(images)])
        if self.training:
            return predictions
        return semantic_logits(predictions.class_logits[-1], predictions.mask_logits[-1])

    def load_head_weights(self, state: dict[str, Tensor]) -> dict[str, list[str]]:
        """Fill the head from the weights of a whole published network, if they are that.

        A classifier of other classes is left out: the queries keep their masks and learn anew
        what these show.

        Args:
            state: All weights of the checkpoint.

        Returns:
            Names under ``loaded``, ``missing`` (own weights that stay fresh) and ``unused``.

        Raises:
            ValueError: A weight other than the classifier's has another shape.
        """
        converted, own = convert_head(state), self.head.state_dict()
        wrong = {
            name for name in converted.keys() & own if converted[name].shape != own[name].shape
        }
        others = sorted(name for name in wrong if not name.startswith('class_predictor.'))
        if others:
            raise ValueError(
                f'{len(others)} weights of the head have another shape, the first is {others[0]}: '
                f'got {tuple(converted[others[0]].shape)}, expected {tuple(own[others[0]].shape)}'
            )
        loaded = [name for name in own if name in converted and name not in wrong]
        self.head.load_state_dict({name: converted[name] for name in loaded}, strict=False)
        return {
            'loaded': loaded,
            'missing': [name for name in own if name not in loaded],
            'unused': [name for name in converted if name not in own],
        }


def semantic_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return logits of pixels from what queries predict.

    The score of a class is the sum over queries of its probability times that of the mask
    (Cheng et al., "MaskFormer", NeurIPS 2021, section 3.4). Scores do not add up to 1 over the
    classes; here they are made to, so that softmax gives them back and a student can be taught.

    Args:
        class_logits: ``(N, Q, C + 1)``; the last class is that of queries that show nothing.
        mask_logits: ``(N, Q, h, w)``.

    Returns:
        ``(N, C, h, w)`` float32, logarithms of probabilities.
    """
    with torch.autocast(class_logits.device.type, enabled=False):
        probs = class_logits.float().softmax(2)[..., :-1]
        scores = torch.einsum('nqc,nqhw->nchw', probs, mask_logits.float().sigmoid())
        return scores.clamp(min=torch.finfo(torch.float32).tiny).log().log_softmax(1)
