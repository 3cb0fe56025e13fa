"""Counting a confusion matrix: 1200x1920 pixels, 64 classes, one image an update.

    python benchmarks/metrics.py [--quick] [--json PATH]

Against torchmetrics without its checks (`validate_args=False`, tensors already of its type) and
scikit-learn, on label maps with regions such as a network draws, displaced borders, a tenth of the
regions wrong and a band of unlabelled truth (255), which none of them may count. torchmetrics is
faster where nothing has to be ignored, ours where errors are regions: rows of their own tell both,
without the band and with errors of single pixels. All counts must be equal.
"""

from __future__ import annotations

import cv2
import numpy as np
from report import arguments, finish, interleaved_ms
import sklearn.metrics
import torch

from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

SIZE, NUM_CLASSES = (1200, 1920), 64


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Return a truth of regions, and a prediction with displaced borders and wrong regions."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, NUM_CLASSES, (40, 64), np.uint8)
    predicted = coarse.copy()
    wrong = rng.random(coarse.shape) < 0.1
    predicted[wrong] = rng.integers(0, NUM_CLASSES, int(wrong.sum()), np.uint8)
    target, label_map = (
        cv2.resize(blocks, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
        for blocks in (coarse, predicted)
    )
    # Borders as ragged as those of real masks: each row is moved by a few pixels of its own.
    for row in range(SIZE[0]):
        target[row] = np.roll(target[row], rng.integers(-4, 5))
        label_map[row] = np.roll(label_map[row], rng.integers(-4, 5))
    return label_map, target


def speckled(target: np.ndarray) -> np.ndarray:
    """Return the truth with one wrong pixel in ten, each on its own."""
    rng = np.random.default_rng(1)
    label_map = target.copy()
    wrong = rng.random(SIZE) < 0.1
    label_map[wrong] = rng.integers(0, NUM_CLASSES, int(wrong.sum()), np.uint8)
    return label_map


def with_void(target: np.ndarray) -> np.ndarray:
    """Return the truth with unlabelled pixels at the bottom, as ego masks leave them."""
    void = target.copy()
    void[-120:] = 255
    return void


def main() -> None:
    """Check that the counts agree, then time them in turn."""
    options = arguments(__doc__)
    keep_freed_memory()  # as training does
    ensure_torchvision_imports()
    from torchmetrics.classification import MulticlassConfusionMatrix

    label_map, target = label_maps()
    void = with_void(target)
    label_tensor, target_tensor, void_tensor = (
        torch.from_numpy(array).long() for array in (label_map, target, void)
    )
    noisy = speckled(target)
    noisy_tensor = torch.from_numpy(noisy).long()
    flat_labels, flat_void, ids = label_map.ravel(), void.ravel(), np.arange(NUM_CLASSES)
    ours, ours_plain = ConfusionMatrix(NUM_CLASSES), ConfusionMatrix(NUM_CLASSES)
    plain = MulticlassConfusionMatrix(NUM_CLASSES, validate_args=False)
    ignoring = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255, validate_args=False)

    def by_sklearn() -> np.ndarray:
        return sklearn.metrics.confusion_matrix(flat_void, flat_labels, labels=ids)

    ours.update(label_map, void)
    ours_plain.update(label_map, target)
    plain.update(label_tensor, target_tensor)
    ignoring.update(label_tensor, void_tensor)
    np.testing.assert_array_equal(ours.counts[:, :-1], by_sklearn())
    np.testing.assert_array_equal(ours.counts[:, :-1], ignoring.confmat.numpy())
    np.testing.assert_array_equal(ours_plain.counts[:, :-1], plain.confmat.numpy())
    times = interleaved_ms(
        {
            'ours': lambda: ours.update(label_map, void),
            'torchmetrics': lambda: ignoring.update(label_tensor, void_tensor),
            'scikit-learn': by_sklearn,
            'ours, nothing ignored': lambda: ours_plain.update(label_map, target),
            'torchmetrics, nothing ignored': lambda: plain.update(label_tensor, target_tensor),
            'ours, speckled': lambda: ours.update(noisy, void),
            'torchmetrics, speckled': lambda: ignoring.update(noisy_tensor, void_tensor),
        },
        rounds=10 if options.quick else 50,
    )
    rows = [{'counter': name, 'ms': took} for name, took in times.items()]
    ratios = {
        'confusion_vs_torchmetrics': times['torchmetrics'] / times['ours'],
        'confusion_vs_torchmetrics_nothing_ignored': times['torchmetrics, nothing ignored']
        / times['ours, nothing ignored'],
        'confusion_vs_torchmetrics_speckled': times['torchmetrics, speckled']
        / times['ours, speckled'],
        'confusion_vs_sklearn': times['scikit-learn'] / times['ours'],
    }
    finish('metrics', options, rows, ratios)


if __name__ == '__main__':
    main()
