"""The model card of a bundle (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019).

It is README.md beside the manifest, for people; nothing reads it. Every figure in it is the
manifest's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from offroad_seg_core.inference.manifest import FRAMES_FOLDER, Manifest
from offroad_seg_core.taxonomy import Taxonomy


def model_card(manifest: Manifest, taxonomy: Taxonomy, sizes_bytes: Mapping[str, int]) -> str:
    """Return the card as Markdown.

    Args:
        manifest: Of the bundle.
        taxonomy: Its classes.
        sizes_bytes: Of its files, by their names.
    """
    parts = [
        _summary(manifest, taxonomy),
        _files(manifest, sizes_bytes),
        _accuracy(manifest, taxonomy),
        _quantization(manifest.metrics.get('quantization')),
        _training(manifest.provenance),
    ]
    return '\n'.join(line for part in parts for line in part).rstrip() + '\n'


def _summary(manifest: Manifest, taxonomy: Taxonomy) -> Iterator[str]:
    height, width = manifest.input.size
    network = manifest.architecture.name if manifest.architecture else 'a network'
    gives = {
        'logits': f'logits at 1/{manifest.outputs.stride} of that',
        'labels': f'labels at 1/{manifest.outputs.stride} of that',
        'fused': f'logits at 1/{manifest.outputs.stride} of that, or labels and confidence at '
        f'1/{manifest.outputs.label_stride}',
    }[manifest.outputs.kind]
    yield f'# {manifest.name}'
    yield ''
    yield f'{network}, {taxonomy.num_classes} classes of {taxonomy.name} ({taxonomy.source}).'
    yield f'It sees {height}x{width} pixels and gives {gives}.'
    if 'license' in manifest.provenance:
        yield f'Licence of the weights: {manifest.provenance["license"]}.'
    pictures = [name for name in manifest.files if name.startswith(f'{FRAMES_FOLDER}/')]
    if pictures:
        yield f'It holds {len(pictures)} pictures of its validation data, under their licence.'
    yield ''
    yield 'It knows places like those it was trained on (below); elsewhere measure it first.'
    yield ''
    yield '```'
    yield 'ros2 launch offroad_seg_ros segment.launch.py bundle:=PATH   # this folder'
    yield '```'
    yield ''


def _files(manifest: Manifest, sizes_bytes: Mapping[str, int]) -> Iterator[str]:
    yield from _table_head('file', 'precision', 'MB', 'accuracy')
    for model in manifest.models:
        size_mb = f'{sizes_bytes[model.file] / 1e6:.1f}'
        checked = 'within limits, see below' if model.is_checked else 'the reference'
        if model.precision != 'fp32' and not model.is_checked:
            checked = 'not checked'
        yield _row(model.file, model.precision, size_mb, checked)
    yield ''


def _accuracy(manifest: Manifest, taxonomy: Taxonomy) -> Iterator[str]:
    metrics = manifest.metrics
    yield '## Accuracy'
    yield ''
    if 'miou_present' not in metrics:
        yield from ('not measured', '')
        return
    size = metrics.get('measured_at_input_size')
    where = f', at {size[0]}x{size[1]}' if size else ''
    yield f'On the validation frames of its training{where}, float32:'
    yield ''
    yield f'* mIoU over the classes in the truth: {_share(metrics["miou_present"])}'
    for key, meaning in (
        ('miou', 'mIoU over the classes in truth or prediction'),
        ('false_safe_rate', 'false safe: costly ground that was called free'),
        ('false_alarm_rate', 'false alarm: free ground that was called costly'),
    ):
        if key in metrics:
            yield f'* {meaning}: {_share(metrics[key])}'
    yield ''
    yield from _table_head('class', 'group', 'cost', 'IoU')
    for entry in taxonomy.classes:
        yield _row(
            entry.name, entry.group, entry.cost, _share(metrics.get('iou', {}).get(entry.name))
        )
    yield ''


def _quantization(report: Mapping[str, Any] | None) -> Iterator[str]:
    if not report:
        return
    yield '## Faster arithmetic'
    yield ''
    yield f'Measured on {report["num_frames"]} frames at the input size of this bundle:'
    yield ''
    limits = report.get('limits', {})
    for key, meaning in (
        ('max_miou_drop', 'int8 may lose of the mIoU'),
        ('max_dangerous_drop', 'int8 may lose of the IoU of a class of lethal cost'),
    ):
        if key in limits:
            yield f'* {meaning}: {_share(limits[key])}'
    unseen = {name for loss in report.get('int8', {}).values() for name in loss.get('unseen', ())}
    if unseen:
        yield f'* in no frame, so that their loss is unknown: {", ".join(sorted(unseen))}'
    yield ''
    yield from _table_head('precision', 'engine', 'mIoU float32', 'mIoU', 'class that lost most')
    for precision in ('int8', 'bf16'):
        for engine, loss in report.get(precision, {}).items():
            drops = {name: drop for name, drop in loss['class_drops'].items() if drop is not None}
            worst = max(drops, key=lambda name: drops[name], default=None)
            lost = f'{worst} ({drops[worst]:+.3f})' if worst else '–'
            before, after = _share(loss['miou_before']), _share(loss['miou_after'])
            yield _row(precision, engine, before, after, lost)
    yield ''


def _training(provenance: Mapping[str, Any]) -> Iterator[str]:
    training = provenance.get('training', {})
    config = training.get('config', {})
    if not config:
        return
    yield '## Training'
    yield ''
    command, step, commit = (training.get(key) for key in ('command', 'step', 'git_commit'))
    yield f'`{command}`, {step} steps; commit {commit}.'
    yield 'The whole configuration stands in manifest.yaml.'
    yield ''
    shown = {'dataset': config['dataset']}
    if config.get('init_checkpoint'):
        shown['init_checkpoint'] = config['init_checkpoint']
    if distillation := config.get('distillation'):
        shown['teachers'] = distillation['teachers']
    yield from ('```', yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip(), '```')


def _share(value: float | None) -> str:
    return '–' if value is None else f'{value:.3f}'


def _table_head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield '|' + ' --- |' * len(names)


def _row(*cells: object) -> str:
    return '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in cells) + ' |'
