"""What teachers and student say, side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.datasets.loading import ValidationViews
from offroad_seg_core.distillation.lesson import open_ensemble
from offroad_seg_core.evaluation.predictions import CheckpointPredictor
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import IGNORE_INDEX
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.visualization import colorize, contact_sheet

FILE_NAME = 'teachers.png'
NUM_FRAMES = 6
COLUMNS = (
    'frame', 'truth', 'teachers', 'student',
    'orange: only the teachers are right, blue: only the student, violet: neither',
)  # fmt: skip
# Told apart by the colour-blind, too (Okabe and Ito 2008).
ONLY_TEACHERS_RGB, ONLY_STUDENT_RGB, NEITHER_RGB = (230, 159, 0), (0, 114, 178), (110, 60, 120)


def write_pictures(config: TrainConfig, checkpoint: Path) -> Path:
    """Write a sheet of evenly spaced validation frames into the folder of a run.

    Args:
        config: A run with ``distillation``.
        checkpoint: The student's.

    Returns:
        The file.

    Raises:
        CheckpointError: The student cannot be read.
        ConfigError, DatasetError, TaxonomyError, BundleError: See ``prepare_lesson``.
    """
    assert config.distillation is not None
    predictor = CheckpointPredictor(load_checkpoint(checkpoint))
    taxonomy = predictor.taxonomy
    frames = config.dataset.frames('validation', taxonomy)
    every = np.array(config.validated(len(frames)))
    chosen = every[np.linspace(0, len(every) - 1, min(NUM_FRAMES, len(every))).round().astype(int)]
    ensemble = open_ensemble(config.distillation, taxonomy, config.model.input_spec(stride=1))
    views = ValidationViews(frames, predictor.spec)
    tiles, captions = [], []
    for index in chosen.tolist():
        image, target = frames.read(index)
        teachers = ensemble.label_map(image)
        student = predictor.predict_view(views[index]).label_map
        maps = (target, teachers, student)
        tiles += [image, *(colorize(entry, taxonomy.palette_rgb) for entry in maps)]
        tiles.append(difference(image, *maps))
        captions += [frames.files[index].stem, *COLUMNS[1:]]
    sheet = contact_sheet(tiles, len(COLUMNS), captions, tile_width=360)
    path = config.folder / FILE_NAME
    _, data = cv2.imencode('.png', sheet[..., ::-1])
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
    return path


def difference(
    image: np.ndarray, target: np.ndarray, teachers: np.ndarray, student: np.ndarray
) -> np.ndarray:
    """Return the frame in pale grey, coloured where teachers or student are wrong.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        target: ``(H, W)`` uint8, the truth; where it is 255 the result is black.
        teachers: ``(H, W)`` uint8.
        student: ``(H, W)`` uint8.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    result = np.repeat((90 + 0.6 * gray).astype(np.uint8)[..., None], 3, axis=2)
    teachers_right, student_right = teachers == target, student == target
    result[teachers_right & ~student_right] = ONLY_TEACHERS_RGB
    result[~teachers_right & student_right] = ONLY_STUDENT_RGB
    result[~teachers_right & ~student_right] = NEITHER_RGB
    result[target == IGNORE_INDEX] = 0
    return result
