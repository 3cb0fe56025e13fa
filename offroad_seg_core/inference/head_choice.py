"""Labels from the graph, or logits that are decoded here: what takes less time on this machine."""

from __future__ import annotations

from collections.abc import Callable
import logging
import time

import numpy as np

from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import LabelEngine
from offroad_seg_core.inference.head import HeadInputs

log = logging.getLogger(__name__)

_ROUNDS = 5


def labels_are_faster(
    engine: LabelEngine, decoder: Decoder, size: tuple[int, int], num_classes: int
) -> bool:
    """Time both ways from an image to its label map at network size, in turn.

    Args:
        engine: Gives labels and logits; warmed up for logits.
        decoder: Of the network's size.
        size: (height, width) of the network's input.
        num_classes: Of the bundle.
    """
    images = np.zeros((1, *size, 3), np.uint8)
    classes = range(num_classes)
    head = HeadInputs.of_classes(num_classes, classes)
    ways: dict[str, Callable[[], object]] = {
        'labels': lambda: decoder.label_map(engine.run_labels(images, head), classes),
        'logits': lambda: decoder.label_map(engine.run(images), classes),
    }
    times_ms: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # compiles, where an engine does so at its first run
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times_ms[name].append((time.perf_counter() - started) * 1e3)
    best = {name: min(values) for name, values in times_ms.items()}
    figures = ', '.join(f'{name} {value:.1f} ms' for name, value in best.items())
    log.info('%s to a label map: %s', engine.info, figures)
    return best['labels'] < best['logits']
