"""Frames for benchmarks of the data tools: a folder in the layout of the Falcon challenge."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from report import ROOT

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.world.drive import Drive

SIZE = (540, 960)
NUM_RENDERED = 8
NUM_FRAMES = 96
FOLDER = ROOT / 'data' / 'benchmark_frames'


def benchmark_frames(folder: Path | None) -> FrameSet:
    """Return frames 960x540 with 16-bit label files.

    Args:
        folder: Of real ones, in the challenge's layout; None renders procedural ones once: a few
            scenes, shifted sideways so that no two files are alike.
    """
    taxonomy = load_taxonomy('falcon10')
    if folder is None:
        folder = FOLDER
        if not (folder / 'done').exists():
            _render(folder)
    return FalconConfig(kind='falcon', root=folder, holdout=None).frames('train', taxonomy)


def _render(folder: Path) -> None:
    for name in ('Color_Images', 'Segmentation'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    raw_ids = np.array([entry.raw_ids[0] for entry in load_taxonomy('falcon10').classes])
    for scene in range(NUM_RENDERED):
        print(f'rendering scene {scene + 1} of {NUM_RENDERED}', flush=True)
        frame = Drive(9000 + scene, 1, 1.0, SIZE, ('windshield',)).frame(0, 'windshield').frame
        image = cv2.cvtColor(frame.image_rgb, cv2.COLOR_RGB2BGR)
        raw = raw_ids[frame.label_map].astype(np.uint16)
        for index in range(NUM_FRAMES // NUM_RENDERED):
            shift_px = index * 80
            stem = f'cc_{scene:02d}_{index:02d}'
            cv2.imwrite(
                str(folder / 'Color_Images' / f'{stem}.jpg'),
                np.roll(image, shift_px, axis=1),
                [cv2.IMWRITE_JPEG_QUALITY, 94],
            )
            cv2.imwrite(
                str(folder / 'Segmentation' / f'{stem}.png'), np.roll(raw, shift_px, axis=1)
            )
    (folder / 'done').touch()
