"""How good the teachers are on the frames that a student is validated on."""

from __future__ import annotations

import json

from tqdm import tqdm

from offroad_seg_core.distillation.lesson import open_ensemble, prepare_lesson
from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import SegmentationScores, segmentation_scores
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.validation import merged

FILE_NAME = 'teachers.json'


def answer_training_frames(config: TrainConfig) -> None:
    """Have the teachers answer all frames of a distillation, without training.

    Raises:
        ConfigError, DatasetError, TaxonomyError, CheckpointError, BundleError, BagError: See
            ``prepare_lesson``.
    """
    assert config.distillation is not None
    taxonomy = load_taxonomy(config.taxonomy)
    frames = config.dataset.frames('train', taxonomy)
    prepare_lesson(config.distillation, taxonomy, config.model.input_spec(stride=1), frames)


def measure_teachers(config: TrainConfig) -> SegmentationScores:
    """Measure the teachers' mean on the student's validation frames; write ``teachers.json``.

    Their answers are not those of the cache, which are coarse: they are interpolated to the frames
    as a student's logits are, so that the two can be compared. Pixels that they say nothing about
    are misses.

    Args:
        config: A run with ``distillation``; the file is written into its folder.

    Returns:
        The scores over all environments; the file has them and, for each environment, scores and
        confusion matrix as ``result.json`` does.

    Raises:
        ConfigError, DatasetError, TaxonomyError, CheckpointError, BundleError: See
            ``prepare_lesson``.
    """
    assert config.distillation is not None
    taxonomy = load_taxonomy(config.taxonomy)
    frames = config.dataset.frames('validation', taxonomy)
    frames = frames.subset(config.validated(len(frames)))
    ensemble = open_ensemble(config.distillation, taxonomy, config.model.input_spec(stride=1))
    matrices: dict[str, ConfusionMatrix] = {}
    bar = tqdm(frames.files, desc='teachers', unit='frame', dynamic_ncols=True, disable=None)
    for index, entry in enumerate(bar):
        image, target = frames.read(index)
        empty = ConfusionMatrix(taxonomy.num_classes)
        matrices.setdefault(entry.environment, empty).update(ensemble.label_map(image), target)
    scores = segmentation_scores(merged(matrices.values()), taxonomy)
    content = {
        'scores': scores.to_dict(),
        **ensemble.identity(),
        'environments': {
            name: {
                'scores': segmentation_scores(matrix, taxonomy).to_dict(),
                'confusion_matrix': matrix.counts.tolist(),
            }
            for name, matrix in sorted(matrices.items())
        },
    }
    with atomic_path(config.folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')
    return scores
