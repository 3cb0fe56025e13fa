"""Image steps around the network against their naive NumPy versions, on a 1920x1200 frame.

    python benchmarks/imaging.py [--quick] [--json PATH]

`naive` is what one writes first, spelled out below; `ours` is what the node runs. Both end in
the same pixels (checked before anything is timed; ours resizes better, see there).
"""

from __future__ import annotations

import cv2
import numpy as np
from report import arguments, finish, interleaved_ms

from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Geometry, Normalizer, Preprocessor
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.visualization import colorize, overlay

CAMERA_SIZE = (1200, 1920)
NETWORK_SIZE = (544, 960)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALPHA = 0.45


def naive_preprocess(image: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3) uint8 to normalised RGB (1, 3, H', W') float32."""
    return naive_normalise(cv2.resize(image, NETWORK_SIZE[::-1])[:, :, ::-1])


def naive_normalise(resized: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) uint8 to normalised (1, 3, H, W) float32."""
    scaled = resized.astype(np.float32) / 255
    normalised = (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))[np.newaxis]


def naive_colourise(label_map: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Palette fancy indexing."""
    return palette[label_map]


def naive_overlay(image: np.ndarray, label_map: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Float blend; unknown pixels keep the image."""
    colour = palette[label_map].astype(np.float32)
    blended = image.astype(np.float32) * (1 - ALPHA) + colour * ALPHA
    known = (label_map != 255)[:, :, np.newaxis]
    return np.where(known, blended.round().astype(np.uint8), image)


def blobs(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """Return a label map of camera size with regions such as a network draws, some unknown."""
    coarse = rng.integers(0, num_classes, (12, 20)).astype(np.uint8)
    label_map = cv2.resize(coarse, CAMERA_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    label_map[:200] = 255
    return label_map


def main() -> None:
    """Check that both versions agree, then time them in turn."""
    options = arguments(__doc__)
    keep_freed_memory()  # as the node does
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*CAMERA_SIZE, 3), np.uint8)
    taxonomy = load_taxonomy('falcon10')
    palette, label_map = taxonomy.palette_bgr, blobs(rng, taxonomy.num_classes)
    mean, std = (tuple(255 * value for value in values) for values in (MEAN, STD))
    spec = InputSpec(size=NETWORK_SIZE, resize='stretch', mean=mean, std=std)
    preprocessor, normalize = Preprocessor(spec), Normalizer(mean, std)
    geometry = Geometry.fit(CAMERA_SIZE, 0, spec)
    coloured, blended = np.empty_like(image), np.empty_like(image)

    def preprocess() -> np.ndarray:
        return normalize(preprocessor.prepare(image, 'bgr', geometry))

    # Ours also averages blocks before it resizes; from the same resized image both end alike.
    batch = preprocessor.prepare(image, 'bgr', geometry)
    np.testing.assert_allclose(normalize(batch), naive_normalise(batch[0]), atol=1e-5)
    np.testing.assert_array_equal(
        colorize(label_map, palette, coloured), naive_colourise(label_map, palette)
    )
    difference = overlay(image, label_map, palette, ALPHA, blended).astype(np.int16)
    difference -= naive_overlay(image, label_map, palette)
    assert np.abs(difference).max() <= 1, 'overlay differs by more than rounding'

    times = interleaved_ms(
        {
            'preprocess naive': lambda: naive_preprocess(image),
            'preprocess ours': preprocess,
            'colourise naive': lambda: naive_colourise(label_map, palette),
            'colourise ours': lambda: colorize(label_map, palette, coloured),
            'overlay naive': lambda: naive_overlay(image, label_map, palette),
            'overlay ours': lambda: overlay(image, label_map, palette, ALPHA, blended),
        },
        rounds=30 if options.quick else 200,
    )
    rows, ratios = [], {}
    for step in ('preprocess', 'colourise', 'overlay'):
        naive, ours = times[f'{step} naive'], times[f'{step} ours']
        ratios[step] = naive / ours
        rows.append({'step': step, 'naive_ms': naive, 'ours_ms': ours, 'ratio': naive / ours})
    finish('imaging', options, rows, ratios)


if __name__ == '__main__':
    main()
