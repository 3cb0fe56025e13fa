"""What a label head is told beside the logits: how sure the network is, and what is known before.

A head computes ``scores = logits / temperature + logit_bias``; the label is the class with the
highest score, the confidence its softmax. The temperature calibrates (Guo et al., "On Calibration
of Modern Neural Networks", ICML 2017); the bias is the logarithm of how much likelier a class is
here than it was in training (Saerens et al., Neural Computation 14, 2002), far below every score
for a class that does not occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOGIT_OF_ABSENT = -1e4
"""No infinity: float16 holds it, and no engine makes NaN of it."""


@dataclass(frozen=True)
class HeadInputs:
    """The inputs of a fused graph beside the images."""

    logit_bias: NDArray[np.float32]
    """``(C,)`` float32, added to the logits of each class."""
    temperature: float = 1.0
    """Divides the logits; above 1 for a network that is too sure of itself."""

    def __post_init__(self) -> None:
        bias = self.logit_bias
        if bias.ndim != 1 or bias.dtype != np.float32 or not np.isfinite(bias).all():
            raise ValueError(
                f'got logit_bias {bias.dtype} {bias.shape}, expected finite float32 (C,); '
                f'fix: {LOGIT_OF_ABSENT} for classes that do not occur'
            )
        if not 0 < self.temperature < np.inf:
            raise ValueError(f'got temperature {self.temperature}, expected above 0')

    @classmethod
    def of_classes(cls, num_classes: int, allowed: Sequence[int]) -> HeadInputs:
        """Return what lets only the allowed ids win and changes nothing else."""
        bias = np.full(num_classes, LOGIT_OF_ABSENT, np.float32)
        bias[list(allowed)] = 0.0
        return cls(bias)
