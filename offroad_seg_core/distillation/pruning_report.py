"""What pruning really saves: parameters, arithmetic, and milliseconds on each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
import tempfile

import torch
from torch.utils.flop_counter import FlopCounterMode

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.models import create_model
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.student_selection import latencies_ms

log = logging.getLogger(__name__)

ENGINES = (
    ('openvino', 'bf16'),
    ('openvino', 'fp32'),
    ('onnxruntime', 'fp32'),
    ('torch', 'fp32'),
)
FASTER = 1.05
"""From this ratio on a network counts as faster: less is noise."""


@dataclass(frozen=True)
class PruningCost:
    """One network, as the robot runs it (without what only training needs).

    Attributes:
        name: Of the network.
        num_parameters: Of its tensors.
        num_zeros: Parameters that are zero.
        giga_macs: Multiplications with additions of one frame, 10^9.
        engine_ms: Engine and precision -> median of the engine's part of a frame.
    """

    name: str
    num_parameters: int
    num_zeros: int
    giga_macs: float
    engine_ms: dict[str, float]


def measure_pruning(
    checkpoints: Mapping[str, Checkpoint],
    input_size: tuple[int, int] | None = None,
    engines: Sequence[tuple[str, str]] = ENGINES,
    num_threads: int = 0,
) -> list[PruningCost]:
    """Measure networks on the engines of this machine, in turn.

    Args:
        checkpoints: By name; the network that the others are held against comes first.
        input_size: (height, width); None: that of the training.
        engines: Engine and precision; those that this machine lacks are left out.
        num_threads: CPU threads; 0 leaves the choice to the engines.
    """
    times: dict[str, dict[str, float]] = {name: {} for name in checkpoints}
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {
            name: export_checkpoint(entry, Path(folder) / str(index), input_size=input_size)
            for index, (name, entry) in enumerate(checkpoints.items())
        }
        for name, checkpoint in checkpoints.items():
            counts[name] = _counts(checkpoint, bundles[name])
        for engine, precision in engines:
            try:
                segmenters = {
                    name: Segmenter.open(bundle.path, engine, precision, num_threads)
                    for name, bundle in bundles.items()
                }
            except EngineError as error:
                log.info('%s %s is not measured: %s', engine, precision, error)
                continue
            for name, duration in latencies_ms(segmenters, 'engine_ms').items():
                times[name][f'{engine} {precision}'] = duration
            for segmenter in segmenters.values():
                segmenter.close()
    return [PruningCost(name, *counts[name], times[name]) for name in checkpoints]


def conclusions(costs: Sequence[PruningCost]) -> list[str]:
    """Say of each network, against the first one, what became smaller and what really faster."""
    first, *others = costs
    lines = []
    for cost in others:
        ratios = {key: first.engine_ms[key] / cost.engine_ms[key] for key in cost.engine_ms}
        faster = [f'{key} x{ratio:.2f}' for key, ratio in ratios.items() if ratio >= FASTER]
        same = [f'{key} x{ratio:.2f}' for key, ratio in ratios.items() if ratio < FASTER]
        lines.append(
            f'{cost.name}: {cost.num_parameters / first.num_parameters:.0%} of the parameters '
            f'({cost.num_zeros / cost.num_parameters:.0%} of them zero), '
            f'{cost.giga_macs / first.giga_macs:.0%} of the arithmetic; '
            f'faster: {", ".join(faster) or "nothing"}; not faster: {", ".join(same) or "nothing"}'
        )
    return lines


def _counts(checkpoint: Checkpoint, bundle: Bundle) -> tuple[int, int, float]:
    """Return parameters, zeros among them, and 10^9 multiplications of a frame."""
    architecture = bundle.manifest.architecture
    assert architecture is not None  # export writes it
    model = create_model(architecture.name, **architecture.kwargs).eval()
    model.load_state_dict({name: checkpoint.weights[name] for name in model.state_dict()})
    parameters = list(model.parameters())
    images = torch.zeros(1, 3, *bundle.manifest.input.size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(images)
    return (
        sum(entry.numel() for entry in parameters),
        sum(int((entry == 0).sum()) for entry in parameters),
        counter.get_total_flops() / 2e9,
    )
