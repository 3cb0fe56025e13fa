"""The data tools against what one writes first, in one run.

    python benchmarks/data.py [--quick] [--json PATH] [--frames FOLDER]

Scan: class counts, sizes, mean colour and hashes of every file, against a loop of `cv2.imread`
and `np.unique` that counts less. Look-up: raw ids and colours to classes, against a dictionary
walked value by value. Loader: decoding, the preset falcon_domain_gap and crops of 512x896 on one
core, against the same transforms called as in a tutorial; and against a training step of
ddrnet23_slim with 8 such crops on all cores. Frames are procedural, 960x540, in the layout of the
Falcon challenge, unless --frames names a folder of that layout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import statistics
import tempfile
import time

import cv2
from data_frames import benchmark_frames
import numpy as np
from report import finish

from offroad_seg_core.datasets.analysis.scan import ScanOptions, scan
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.taxonomy import load_taxonomy

CROP_SIZE, BATCH_SIZE = (512, 896), 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Ratios = dict[str, float]
Rows = list[dict[str, object]]


def naive_scan(frames: FrameSet, images: bool) -> None:
    """Decode every file and count raw values, file after file."""
    totals: dict[int, int] = {}
    for files in frames.files:
        mask = cv2.imread(str(files.label), cv2.IMREAD_UNCHANGED)
        for value, count in zip(*np.unique(mask, return_counts=True), strict=True):
            totals[int(value)] = totals.get(int(value), 0) + int(count)
        if images:
            cv2.imread(str(files.image))


def ours(frames: FrameSet, options: ScanOptions) -> None:
    """Scan and look at nothing but problems."""
    for record in scan(frames, options):
        assert not record.problems, record.problems


def interleaved_s(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time candidates in turn; medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def scanning(frames: FrameSet, rounds: int) -> tuple[Rows, Ratios]:
    """Compare scans; every file was read before, so that the disk plays no part."""
    naive_scan(frames, images=True)
    with tempfile.TemporaryDirectory() as folder:
        cached = ScanOptions(cache=Path(folder) / 'scan.sqlite')
        ours(frames, cached)
        seconds = interleaved_s(
            {
                'masks, naive': lambda: naive_scan(frames, images=False),
                'masks': lambda: ours(frames, ScanOptions(images=False)),
                'images and masks, naive': lambda: naive_scan(frames, images=True),
                'images and masks': lambda: ours(frames, ScanOptions()),
                'again, from the cache': lambda: ours(frames, cached),
            },
            rounds,
        )
    rows: Rows = [
        {'what': f'scan {name}', 'per_s': len(frames) / took} for name, took in seconds.items()
    ]
    full_naive = seconds['images and masks, naive']
    return rows, {
        'scan_vs_naive': seconds['masks, naive'] / seconds['masks'],
        'full_scan_vs_naive': full_naive / seconds['images and masks'],
        'rescan_vs_naive': full_naive / seconds['again, from the cache'],
    }


def dict_look_up(raw: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """Map ids value by value."""
    label_map = np.full(raw.shape, 255, np.uint8)
    for value in np.unique(raw):
        label_map[raw == value] = table[int(value)]
    return label_map


def dict_colour_look_up(rgb: np.ndarray, table: dict[tuple[int, ...], int]) -> np.ndarray:
    """Map colours value by value."""
    label_map = np.full(rgb.shape[:2], 255, np.uint8)
    for color in np.unique(rgb.reshape(-1, 3), axis=0):
        label_map[(rgb == color).all(axis=2)] = table[tuple(int(v) for v in color)]
    return label_map


def looking_up(frames: FrameSet, rounds: int) -> tuple[Rows, Ratios]:
    """Compare both look-ups on one frame of the size that it is stored in."""
    taxonomy = load_taxonomy('falcon10')
    by_id, by_color = MaskReader(taxonomy, 'raw_ids'), MaskReader(taxonomy, 'colors')
    raw = by_id.read_stored(str(frames.files[0].label))
    truth = by_id.encode(raw)
    rgb = taxonomy.palette_rgb[truth]
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    ids = {raw_id: entry.id for entry in taxonomy.classes for raw_id in entry.raw_ids}
    colors = {entry.color_rgb: entry.id for entry in taxonomy.classes}
    for label_map in (
        by_color.encode(packed), dict_look_up(raw, ids), dict_colour_look_up(rgb, colors)
    ):  # fmt: skip
        np.testing.assert_array_equal(label_map, truth)
    seconds = interleaved_s(
        {
            'ids, dictionary': lambda: dict_look_up(raw, ids),
            'ids': lambda: by_id.encode(raw),
            'colours, dictionary': lambda: dict_colour_look_up(rgb, colors),
            'colours': lambda: by_color.encode(packed),
        },
        rounds,
    )
    rows: Rows = [{'what': f'look-up {name}', 'per_s': 1 / took} for name, took in seconds.items()]
    return rows, {
        'lut_vs_dict': seconds['ids, dictionary'] / seconds['ids'],
        'colour_lut_vs_dict': seconds['colours, dictionary'] / seconds['colours'],
    }


def naive_loader(frames: FrameSet) -> Callable[[int], object]:
    """Return the tutorial's loader: OpenCV, a dictionary of raw ids, albumentations, floats."""
    import albumentations as library
    import torch

    taxonomy = load_taxonomy('falcon10')
    ids = {raw_id: entry.id for entry in taxonomy.classes for raw_id in entry.raw_ids}
    transform = library.Compose(
        [
            library.RandomResizedCrop(CROP_SIZE, scale=(0.5, 1.0)),
            library.HorizontalFlip(p=0.5),
            library.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=0.6),
            library.RandomBrightnessContrast((-0.3, 0.1), 0.2, p=0.4),
            library.CLAHE(4.0, p=0.2),
            library.GaussianBlur((3, 5), p=0.15),
            library.Normalize(MEAN, STD),
        ]
    )

    def load(index: int) -> object:
        files = frames.files[index % len(frames)]
        image = cv2.cvtColor(cv2.imread(str(files.image)), cv2.COLOR_BGR2RGB)
        mask = dict_look_up(cv2.imread(str(files.label), cv2.IMREAD_UNCHANGED), ids)
        made = transform(image=image, mask=mask)
        image_chw = torch.from_numpy(np.ascontiguousarray(made['image'].transpose(2, 0, 1)))
        return image_chw, torch.from_numpy(made['mask']).long()

    return load


def loading(frames: FrameSet, rounds: int) -> tuple[Rows, Ratios]:
    """Compare the loaders on one core, and ours with a training step."""
    from offroad_seg_core.datasets.augmentation import PipelineConfig
    from offroad_seg_core.datasets.loading import TrainingViews
    from offroad_seg_core.inference.manifest import InputSpec

    spec = InputSpec(
        size=CROP_SIZE, mean=tuple(255 * v for v in MEAN), std=tuple(255 * v for v in STD)
    )
    config = PipelineConfig(kind='pipeline', preset='falcon_domain_gap')
    views = TrainingViews(frames, CROP_SIZE, spec, config, seed=0)
    naive = naive_loader(frames)
    cv2.setNumThreads(1)
    keys = iter(range(10**9))
    seconds = interleaved_s(
        {
            'naive': lambda: [naive(next(keys)) for _ in range(BATCH_SIZE)],
            'ours': lambda: views.__getitems__(
                [(next(keys), index % len(frames)) for index in range(BATCH_SIZE)]
            ),
        },
        max(3, rounds),
    )
    step_s = training_step_s(max(2, rounds // 2))
    rows: Rows = [
        {'what': f'loader {name}, one core', 'per_s': BATCH_SIZE / took}
        for name, took in seconds.items()
    ]
    rows.append({'what': 'training step, all cores', 'per_s': BATCH_SIZE / step_s})
    return rows, {
        'loader_vs_naive': seconds['naive'] / seconds['ours'],
        'loader_vs_train_step': step_s / seconds['ours'],
    }


def training_step_s(rounds: int) -> float:
    """Return the median time of a step of ddrnet23_slim."""
    import torch

    from offroad_seg_core.config import load_config
    from offroad_seg_core.training.config import TrainConfig
    from offroad_seg_core.training.run import resolve_precision
    from offroad_seg_core.training.task import SegmentationTask

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = load_config(
        TrainConfig,
        {
            'name': 'benchmark',
            'dataset': {'kind': 'folder', 'root': 'none'},
            'model': {'name': 'ddrnet23_slim', 'input_size': list(CROP_SIZE)},
            'optimizer': {'max_steps': 1},
            'loss': {'terms': [{'name': 'cross_entropy'}, {'name': 'dice'}]},
        },
    )
    task = SegmentationTask(config, 10)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    task = task.to(device).train()
    use_bf16 = resolve_precision('auto') == 'bf16'
    images = torch.randint(0, 256, (BATCH_SIZE, *CROP_SIZE, 3), dtype=torch.uint8, device=device)
    target = torch.randint(0, 10, (BATCH_SIZE, *CROP_SIZE), device=device)
    optimizer = task.configure_optimizers()['optimizer']
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=use_bf16):
            outputs = task.model(task.normalize(images))
        loss = sum(task._loss_of(logits, {'target': target})['total'] for logits in outputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('--quick', action='store_true', help='end within 50 s')
    parser.add_argument('--json', type=Path, help='where to write the result')
    parser.add_argument('--frames', type=Path, help='a folder in the layout of the challenge')
    options = parser.parse_args()
    keep_freed_memory()
    frames = benchmark_frames(options.frames)
    if options.quick:
        frames = frames.subset(range(min(48, len(frames))))
    rounds = 3 if options.quick else 7
    rows: Rows = []
    ratios: Ratios = {}
    for part in (scanning, looking_up, loading):
        more_rows, more_ratios = part(frames, rounds)
        rows += more_rows
        ratios.update(more_ratios)
    finish('data', options, rows, ratios)


if __name__ == '__main__':
    main()
