"""What a segmenter is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.sliding_window import SlidingWindow
from offroad_seg_core.inference.tta import TTA_VIEWS
from offroad_seg_core.lookup import lookup


@dataclass(frozen=True)
class SegmenterOptions:
    """What can be changed between two frames."""

    tta: str = 'off'
    """`off`, `flip`, `flip_scales`, or `auto`: as many views as fit `deadline_ms`."""
    deadline_ms: float = 100.0
    """From the frame's receipt to its labels; only `tta: auto` looks at it."""
    absent_classes: tuple[str, ...] = ()
    """Classes declared not to occur at this site, by name."""
    confidence_threshold: float = 0.0
    """Pixels less confident than this (0–1) become 255."""
    cost_overrides: Mapping[str, int] = field(default_factory=dict)
    """Class name → traversability cost for this robot."""
    output_size: Literal['camera', 'engine'] | tuple[int, int] = 'camera'
    """The camera's size, the size the network saw (no upsampling), or (height, width)."""
    sliding_window: SlidingWindow | None = None
    """Cut frames into windows; None shows them to the network whole."""

    def __post_init__(self) -> None:
        if self.tta not in TTA_VIEWS:
            raise ValueError(f'got tta {self.tta!r}, expected one of {list(TTA_VIEWS)}')
        if not 0.0 <= self.confidence_threshold <= 1.0:
            raise ValueError(
                f'got confidence_threshold {self.confidence_threshold}, expected 0 to 1'
            )
        if self.deadline_ms <= 0:
            raise ValueError(f'got deadline_ms {self.deadline_ms}, expected above 0')
        if self.output_size not in ('camera', 'engine') and (
            isinstance(self.output_size, str)
            or len(self.output_size) != 2
            or min(self.output_size) < 1
        ):
            raise ValueError(
                f'got output_size {self.output_size!r}, expected camera, engine or (height, width)'
            )

    @property
    def needs_logits(self) -> bool:
        """Whether several passes are merged, for which labels will not do."""
        return self.tta != 'off' or self.sliding_window is not None


@dataclass(frozen=True)
class Timings:
    """Where one frame's time went, ms on a steady clock."""

    preprocess_ms: float
    engine_ms: float
    decode_ms: float
    passes: int
    """Views that the engine ran."""

    @property
    def total_ms(self) -> float:
        """Everything together."""
        return self.preprocess_ms + self.engine_ms + self.decode_ms


@dataclass(frozen=True)
class SegmentationResult:
    """One frame's answer; all maps are ``(H, W)`` uint8 of the same size."""

    label_map: NDArray[np.uint8]
    """Class ids, 255 where nothing is known."""
    confidence_u8: NDArray[np.uint8] | None
    """Probability of the label, 0–255 for 0–1; 0 where the label is 255. None if not wanted."""
    cost_table: NDArray[np.uint8]
    """``(256,)`` uint8: class id → cost."""
    timings: Timings

    @property
    def cost(self) -> NDArray[np.uint8]:
        """Traversability cost 0 (free) to 254 (lethal), 255 unknown; computed when asked for."""
        return self.write_cost(None)

    def write_cost(self, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Compute the cost into ``out`` (same shape, uint8) and return it."""
        return lookup(self.label_map, self.cost_table, out)
