"""What a smaller network input costs in accuracy and saves in time, for the shipped student.

    python benchmarks/input_size.py [--quick] [--json PATH]

Runs the shipped bundle at several input sizes, engine `auto`, on frames of the recipe's
validation places (rendered here, 544x960), in turn.
"""

from __future__ import annotations

from pathlib import Path
import statistics
import tempfile

from report import ROOT, arguments, finish
import yaml

from offroad_seg_core.inference.bundle import write_bundle
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.world import Drive

SIZES = ((512, 896), (448, 768), (384, 672), (320, 576))
SEEDS = range(500, 510)
FRAME_SPACING = 40
BUNDLE = ROOT / 'models' / 'demo_desert'


def resized(size: tuple[int, int], folder: Path) -> Segmenter:
    """Open the shipped bundle at another input size."""
    manifest = yaml.safe_load((BUNDLE / 'manifest.yaml').read_text())
    files = {name: BUNDLE / name for name in manifest.pop('files')}
    manifest['input']['size'] = list(size)
    write_bundle(folder, manifest, files)
    return Segmenter.open(folder)


def main() -> None:
    """Score every size on the same frames."""
    options = arguments(__doc__)
    keep_freed_memory()
    seeds, per_seed = (SEEDS[:3], 2) if options.quick else (SEEDS, 6)
    with tempfile.TemporaryDirectory() as folder:
        segmenters = {size: resized(size, Path(folder) / str(size[0])) for size in SIZES}
    matrices = {size: ConfusionMatrix(10) for size in SIZES}
    times_ms: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
    for seed in seeds:
        drive = Drive(seed, FRAME_SPACING * per_seed)
        for index in range(0, len(drive) // len(drive.cameras), FRAME_SPACING):
            for camera in drive.cameras:
                frame = drive.frame(index, camera).frame
                for size, segmenter in segmenters.items():
                    result = segmenter.segment(frame.image_rgb, 'rgb')
                    matrices[size].update(result.label_map, frame.label_map)
                    times_ms[size].append(result.timings.engine_ms)
    rows = [
        {
            'input_size': f'{size[0]}x{size[1]}',
            'engine': str(segmenters[size].engine.info),
            'engine_ms': statistics.median(times_ms[size]),
            'miou_present': matrices[size].miou_present,
        }
        for size in SIZES
    ]
    full, small = (512, 896), (384, 672)
    ratios = {
        'small_speed_up': statistics.median(times_ms[full]) / statistics.median(times_ms[small]),
        'small_miou_loss': matrices[full].miou_present - matrices[small].miou_present,
    }
    finish('input_size', options, rows, ratios)


if __name__ == '__main__':
    main()
