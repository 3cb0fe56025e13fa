"""Where the pixels of a view come from, against what the view shows."""

import numpy as np
import pytest

from offroad_seg_core.datasets.augmentation import create_augmentation
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig
from offroad_seg_core.datasets.augmentation.pipeline import PipelineConfig
from offroad_seg_core.datasets.augmentation.views import ViewsConfig
from offroad_seg_core.inference.manifest import InputSpec

FRAME, CROP = (48, 80), (32, 64)
SPEC = InputSpec(size=(64, 96), mean=(120.0, 110.0, 100.0), std=(58.0, 57.0, 57.0))
VIEWS = ViewsConfig(
    scale_range=(0.4, 2.5),
    rotation_deg=30.0,
    max_class_share=1.0,
    photometric=PhotometricConfig(strength=0.0),
)


def pipeline(*transforms):
    return PipelineConfig('pipeline', transforms=transforms)


GEOMETRIES = {
    'views': VIEWS,
    'flip': pipeline({'name': 'HorizontalFlip', 'p': 1.0}),
    'zoom': pipeline({'name': 'RandomZoom', 'fit_size': 'input_size', 'scale_range': [0.5, 2.0]}),
    'affine': pipeline({'name': 'Affine', 'rotate': [-20, 20], 'scale': [0.8, 1.2], 'p': 1.0}),
    'perspective': pipeline({'name': 'Perspective', 'p': 1.0}),
    'elastic': pipeline({'name': 'ElasticTransform', 'alpha': 30, 'sigma': 4, 'p': 1.0}),
    'turned': pipeline({'name': 'D4', 'p': 1.0}),
    'holes': pipeline({'name': 'CoarseDropout', 'fill_mask': 255, 'p': 1.0}),
}


@pytest.fixture(scope='module')
def frame():
    """Return an image whose colour is its place, and a label map whose label is, too."""
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    image = np.stack([2 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)
    return image, (x // 8 + 10 * (y // 8)).astype(np.uint8)


def label_at(label_map, x, y):
    height, width = label_map.shape
    return label_map[
        np.rint(y).astype(int).clip(0, height - 1), np.rint(x).astype(int).clip(0, width - 1)
    ]


@pytest.mark.parametrize('config', GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize('seed', range(4))
def test_origins_lead_to_what_is_shown(frame, config, seed):
    augmentation = create_augmentation(config, CROP, SPEC)
    view, labels, origins = augmentation.trace(*frame, np.random.default_rng(seed))
    expected = augmentation(*frame, np.random.default_rng(seed))
    assert np.array_equal(view, expected[0])
    assert np.array_equal(labels, expected[1])
    assert origins.shape == (*CROP, 2)
    assert origins.dtype == np.float32
    inside = ~np.isnan(origins[..., 0])
    x, y = origins[inside].astype(np.float64).T
    # Where an origin lies on the border of two pixels, either's label may have been taken.
    assert np.mean(labels[inside] == label_at(frame[1], x, y)) > 0.98
    around = [label_at(frame[1], x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    assert (labels[inside] == around).any(axis=0).all()
    assert np.mean((labels == 255) == ~inside) > 0.99
    if config is not GEOMETRIES['holes']:
        shown = view[inside].astype(float)
        tolerance_px = 0.05 if config is VIEWS else 1.0  # labels are nearest neighbours
        core = (x > 1) & (x < 78) & (y > 1) & (y < 46)
        assert np.abs(shown[core, 0] / 2 - x[core]).max() <= tolerance_px + 0.25
        assert np.abs(shown[core, 1] / 4 - y[core]).max() <= tolerance_px + 0.25


def test_what_is_outside_has_no_origin(frame):
    still = ViewsConfig(
        scale_range=(1.0, 1.0), rotation_deg=0.0, flip_probability=0.0, max_class_share=1.0
    )
    spec = SPEC.model_copy(update={'size': FRAME})
    augmentation = create_augmentation(still, (96, 160), spec)
    _, labels, origins = augmentation.trace(*frame, np.random.default_rng(0))
    inside = ~np.isnan(origins).any(axis=-1)
    assert inside.sum() == 48 * 80
    assert np.array_equal(inside, labels != 255)
    x, y = np.rint(origins[inside]).astype(int).T
    assert np.array_equal(np.unique(x), np.arange(80))
    assert np.array_equal(np.unique(y), np.arange(48))
