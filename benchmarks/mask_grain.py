"""What mIoU coarse logits can reach at all on the masks of the Falcon desert.

    python benchmarks/mask_grain.py [--json PATH]

The truth itself takes the network's place: its classes are averaged over cells of as many pixels
as the stride of a network's logits, enlarged bilinearly as any decoder's logits are, and the
largest wins. The frames are the four that benchmarks/recipes.py has learned by heart: of full
size, of a quarter of the sides, and with the masks in blocks that recipes.py uses. It is no strict
bound, as logits may be sharper than averages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from recipes import COARSE_FRAMES, FRAMES, make_frames
from report import ROOT, arguments, finish

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import load_taxonomy

NUM_FRAMES = 4
STRIDES = (4, 8)
SETS = {
    'full size': Path('data/falcon_desert'),
    'a quarter of the sides': FRAMES,
    'a quarter of the sides, blocks of 8 pixels': COARSE_FRAMES,
}


def at_stride(target: np.ndarray, stride: int, num_classes: int) -> np.ndarray:
    """Return a label map (H, W) as logits of a stride would show it."""
    height, width = target.shape
    cells = (round(width / stride), round(height / stride))
    planes = []
    for class_id in range(num_classes):
        share = cv2.resize(
            (target == class_id).astype(np.float32), cells, interpolation=cv2.INTER_AREA
        )
        planes.append(cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.argmax(planes, axis=0).astype(np.uint8)


def miou_of_truth(targets: list[np.ndarray], stride: int, num_classes: int) -> float:
    """Return the mIoU over the classes present of the truth at a stride."""
    matrix = ConfusionMatrix(num_classes)
    for target in targets:
        matrix.update(at_stride(target, stride, num_classes), target)
    return matrix.miou_present


def main() -> None:
    """Measure every set of frames at every stride."""
    options = arguments(__doc__)
    make_frames()
    taxonomy = load_taxonomy('falcon10')
    rows: list[dict[str, Any]] = []
    for name, root in SETS.items():
        frames = FalconConfig('falcon', ROOT / root, 'cc').frames('train', taxonomy)
        targets = [frames.read(index)[1] for index in range(NUM_FRAMES)]
        row: dict[str, Any] = {'frames': name}
        row['size'] = '{}x{}'.format(*targets[0].shape)
        for stride in STRIDES:
            row[f'mIoU of the truth at stride {stride}'] = miou_of_truth(
                targets, stride, taxonomy.num_classes
            )
        rows.append(row)
    finish('mask_grain', options, rows, {})


if __name__ == '__main__':
    main()
