"""Labels from the graph, or logits that are decoded here: what takes less time on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import logging
from pathlib import Path
import time

import numpy as np

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import LabelEngine
from offroad_seg_core.inference.engines.choices import Choice
from offroad_seg_core.inference.head import HeadInputs

log = logging.getLogger(__name__)

_ROUNDS = 5


def labels_are_faster(
    engine: LabelEngine, decoder: Decoder, bundle: Bundle, cache_folder: Path | None
) -> bool:
    """Tell which way from an image to its label map at network size takes less time.

    Both are timed in turn at the first start; later starts remember the answer.

    Args:
        engine: Gives labels and logits; warmed up.
        decoder: Of the network's size.
        bundle: What the engine runs.
        cache_folder: Where measured choices are kept; None: the user's.
    """
    size, num_classes = bundle.manifest.input.size, bundle.taxonomy.num_classes
    # Labels of both ways differ a little: in streams they are those of one.
    choice = Choice.of('head', bundle, cache_folder, [str(replace(engine.info, num_streams=1))])
    known = choice.read()
    if known is not None and isinstance(known.get('labels_are_faster'), bool):
        if not known['labels_are_faster']:  # a warm-up gives labels, and now logits are wanted
            engine.run(np.zeros((1, *size, 3), np.uint8))
        return known['labels_are_faster']
    answer = _measure(engine, decoder, size, num_classes)
    choice.keep({'labels_are_faster': answer})
    return answer


def _measure(
    engine: LabelEngine, decoder: Decoder, size: tuple[int, int], num_classes: int
) -> bool:
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
