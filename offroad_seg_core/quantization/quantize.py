"""From a bundle to one with an int8 file that was held against it on labelled frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
import importlib.util
import json
import logging
from pathlib import Path
import tempfile
import time
from typing import Any

import onnx

from offroad_seg_core import provenance
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.bundle import Bundle, BundleError, write_bundle
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.export_head import check_head
from offroad_seg_core.inference.label_head import add_head
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.quantization.accuracy import (
    AccuracyLimits,
    AccuracyLoss,
    compare,
    measure,
)
from offroad_seg_core.quantization.calibration import CalibrationSet
from offroad_seg_core.quantization.int8 import QuantizationError, Quantizer
from offroad_seg_core.quantization.sensitivity import sensitivity

log = logging.getLogger(__name__)

INT8_FILE = 'model_int8.onnx'
CPU_ENGINES = ('openvino', 'onnxruntime')
_SENSITIVITY_FRAMES = 8


@dataclass(frozen=True)
class QuantizeOptions:
    """How a bundle is quantised.

    Attributes:
        limits: What the int8 file may lose.
        engines: Keys of ENGINES that must stay within the limits.
        max_float_share: Of the network's blocks that may stay float, the most sensitive first,
            before it is given up.
        keeps_source: Keep the files of other precisions in the bundle; without them PyTorch and
            GPUs cannot run it.
        num_threads: Of the engines that measure.
        record: JSON file for the confusion matrices that the bundle was judged by.
        command: How it was started, for the record.
    """

    limits: AccuracyLimits = field(default_factory=AccuracyLimits)
    engines: tuple[str, ...] = CPU_ENGINES
    max_float_share: float = 0.5
    keeps_source: bool = True
    num_threads: int = 0
    record: Path | None = None
    command: str = ''


def installed_engines() -> tuple[str, ...]:
    """Return the engines for processors that this machine has."""
    return tuple(name for name in CPU_ENGINES if importlib.util.find_spec(name))


def quantize_bundle(
    bundle: Bundle,
    output: str | Path,
    calibration: CalibrationSet,
    frames: FrameSet,
    options: QuantizeOptions = QuantizeOptions(),
) -> Bundle:
    """Write a bundle with an int8 file, unless that loses too much accuracy.

    When the whole network in int8 is beyond the limits, the blocks that suffer most stay float,
    one more at a time. A fused bundle stays fused.

    Args:
        bundle: With an fp32 file; what engines make of that in bf16 is measured, too.
        output: Folder of the new bundle; may be that of the old one.
        calibration: Frames that ranges are measured on.
        frames: Labelled frames that accuracy is measured on, in the bundle's classes.
        options: See there.

    Raises:
        QuantizationError: Beyond the limits, whatever stays float; names the classes. Nothing is
            written then. Or there is no engine to measure with.
        BundleError: The bundle has no fp32 file.
    """
    if not options.engines:
        raise QuantizationError(f'got no engine to measure with, expected some of {CPU_ENGINES}')
    try:
        source = bundle.model_file('fp32')
    except BundleError as error:
        raise BundleError(
            f'{error}: the source weights are not there; fix: quantise the bundle that this one '
            'was made from'
        ) from error
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = bundle.manifest.input
        quantizer = Quantizer(source, calibration.batches(spec), folder)
        search = _Search(bundle, quantizer, calibration, frames, options, folder)
        losses = search.run()
        for class_name in losses[0].unseen:
            log.warning('no frame shows the dangerous class %s: its loss is unknown', class_name)
        manifest, files = _with_int8(bundle, search.file, options.keeps_source, is_checked=True)
        manifest['name'] = Path(output).name
        manifest['metrics']['quantization'] = {
            'num_frames': len(frames),
            'limits': asdict(options.limits),
            'int8': {loss.engine: loss.to_dict() for loss in losses},
            'bf16': {loss.engine: loss.to_dict() for loss in search.bf16_losses()},
        }
        manifest['provenance']['quantization'] = {
            'calibration': calibration.source,
            'num_calibration_frames': len(calibration.images),
            'warnings': list(calibration.warnings),
            'float_blocks': search.float_blocks,
            'sensitivity_nats': search.costs,
            'git_commit': provenance.git_commit(),
            'versions': provenance.versions(),
        }
        if options.record is not None:
            _write_record(bundle, losses, options, time.monotonic() - started_s)
        return write_bundle(output, manifest, files)


def _write_record(
    bundle: Bundle, losses: list[AccuracyLoss], options: QuantizeOptions, elapsed_s: float
) -> None:
    """Write the counts with what they depend on, for benchmarks that compute scores anew."""
    training = bundle.manifest.provenance.get('training', {})
    content = {
        'command': options.command,
        'elapsed_s': round(elapsed_s, 1),
        'git_commit': provenance.git_commit(),
        'versions': provenance.versions(),
        'cpu': provenance.cpu_name(),
        'config_sha256': training.get('config_sha256'),
        'seed': training.get('config', {}).get('seed'),
        'taxonomy': bundle.taxonomy.to_dict(),
        'engines': {
            loss.engine: {
                precision: {'confusion_matrix': counts.tolist()}
                for precision, counts in zip(('fp32', 'int8'), loss.counts, strict=True)
            }
            for loss in losses
        },
    }
    assert options.record is not None  # by the caller
    with atomic_path(options.record) as temporary:
        temporary.write_text(json.dumps(content), encoding='utf-8')


def summary(bundle: Bundle) -> str:
    """Return what was measured of a quantised bundle, for people."""
    size_mb = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    report = bundle.manifest.metrics['quantization']
    lines = [f'{bundle.path}: {size_mb:.1f} MB; measured on {report["num_frames"]} frames:']
    for precision in ('int8', 'bf16'):
        for engine, loss in report[precision].items():
            figures = f'{loss["miou_before"]:.4f} -> {loss["miou_after"]:.4f}'
            lines.append(f'  {engine} {precision}: mIoU {figures}')
    kept = bundle.manifest.provenance['quantization']['float_blocks']
    return '\n'.join([*lines, f'  left in float: {", ".join(kept) or "nothing"}'])


class _Search:
    """Looks for the smallest part of a network that must stay float."""

    def __init__(
        self,
        bundle: Bundle,
        quantizer: Quantizer,
        calibration: CalibrationSet,
        frames: FrameSet,
        options: QuantizeOptions,
        folder: Path,
    ) -> None:
        self._bundle, self._quantizer, self._folder = bundle, quantizer, folder
        self._calibration, self._frames, self._options = calibration, frames, options
        self._before: dict[str, ConfusionMatrix] = {}
        self.file = folder / INT8_FILE
        self.float_blocks: list[str] = []
        self.costs: dict[str, float] = {}

    def run(self) -> list[AccuracyLoss]:
        """Return what the graph in `file` loses, which is within the limits."""
        losses = self._try([])
        if not _violations(losses):
            return losses
        log.info('beyond the limits: %s', '; '.join(_violations(losses)))
        spec = self._bundle.manifest.input
        batches = self._calibration.batches(spec, _SENSITIVITY_FRAMES)
        self.costs = sensitivity(self._quantizer, batches, self._folder)
        order = list(self.costs)
        for count in range(1, int(len(order) * self._options.max_float_share) + 1):
            losses = self._try(order[:count])
            if not _violations(losses):
                return losses
            log.info('%s in float: %s', ', '.join(order[:count]), '; '.join(_violations(losses)))
        raise QuantizationError(
            f'{self._bundle.path}: int8 is refused, also with {len(self.float_blocks)} of '
            f'{len(order)} blocks in float:\n  ' + '\n  '.join(_violations(losses)) + '\nfix: '
            'calibration frames of more places, training with more frames of these classes, or '
            'other limits'
        )

    def _try(self, float_blocks: list[str]) -> list[AccuracyLoss]:
        self.float_blocks = float_blocks
        self._quantizer.write(self.file, float_blocks)
        outputs = self._bundle.manifest.outputs
        if outputs.kind == 'fused':
            plain = onnx.load(self.file)
            assert outputs.label_stride is not None  # by OutputSpec
            onnx.save(add_head(plain, outputs.stride, outputs.label_stride), self.file)
            check_head(plain, self.file, self._bundle.manifest.input.stride)
        manifest, files = _with_int8(self._bundle, self.file, True, is_checked=False)
        trial = write_bundle(self._folder / 'trial', manifest, files)
        return [self._loss(trial, engine, 'int8') for engine in self._options.engines]

    def bf16_losses(self) -> list[AccuracyLoss]:
        """Return what bfloat16 loses on the engines that compute it here; nothing is refused."""
        losses = []
        for engine in self._options.engines:
            try:
                losses.append(self._loss(self._bundle, engine, 'bf16'))
            except EngineError as error:
                log.info('%s bf16 is not measured: %s', engine, error)
        return losses

    def _loss(self, bundle: Bundle, engine: str, precision: str) -> AccuracyLoss:
        threads = self._options.num_threads
        if engine not in self._before:
            self._before[engine] = measure(bundle, self._frames, engine, 'fp32', threads)
        after = measure(bundle, self._frames, engine, precision, threads)
        limits = self._options.limits
        loss = compare(self._before[engine], after, bundle.taxonomy, limits, engine)
        figures = loss.miou_before, loss.miou_after
        log.info('%s %s: mIoU %.4f -> %.4f', engine, precision, *figures)
        return loss


def _violations(losses: Iterable[AccuracyLoss]) -> list[str]:
    return [f'{loss.engine}: {line}' for loss in losses for line in loss.violations]


def _with_int8(
    bundle: Bundle, file: Path, keeps_source: bool, is_checked: bool
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return the manifest and the files of a bundle with another int8 file."""
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files', 'format_version'})
    others = [entry for entry in manifest['models'] if entry['precision'] != 'int8']
    files = {entry['file']: bundle.path / entry['file'] for entry in others}
    if not keeps_source:
        others, files = [], {}
    entry = {'precision': 'int8', 'file': INT8_FILE, 'is_checked': is_checked}
    manifest['models'] = [*others, entry]
    return manifest, {**bundle.frames, **files, INT8_FILE: file}
