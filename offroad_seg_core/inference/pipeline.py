"""What stands around an engine: the way to its input, its passes, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Preprocessor
from offroad_seg_core.inference.sliding_window import SlidingWindow, WindowRunner
from offroad_seg_core.inference.tta import TTA_VIEWS, ViewRunner


@dataclass(frozen=True)
class Passes:
    """The views of a frame that are merged; by default it is seen once, as in validations.

    Attributes:
        tta: A key of TTA_VIEWS; ``auto`` is all of them, as there is no deadline.
        sliding_window: Cut each view into windows; None for whole views.
    """

    tta: str = 'off'
    sliding_window: SlidingWindow | None = None

    def __post_init__(self) -> None:
        """Check the name of the views."""
        if self.tta not in TTA_VIEWS:
            raise ValueError(f'got tta {self.tta!r}, expected one of {list(TTA_VIEWS)}')


ONE_PASS = Passes()


class Pipeline(NamedTuple):
    """The parts that depend on the size that frames are fitted into."""

    spec: InputSpec
    preprocessor: Preprocessor
    decoder: Decoder
    views: ViewRunner

    @classmethod
    def of(
        cls,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        spec: InputSpec,
        sliding: SlidingWindow | None,
    ) -> Pipeline:
        """Build the parts; ValueError if windows do not fit the network.

        Args:
            run: Maps ``(N, H, W, 3)`` uint8 to logits ``(N, C, h, w)``.
            spec: The network's input.
            sliding: How frames are cut; None for whole frames.
        """
        if sliding is not None:
            run, spec = WindowRunner(run, sliding, spec), sliding.spec_of(spec)
        return cls(spec, Preprocessor(spec), Decoder(spec.size), ViewRunner(run, spec.stride))
