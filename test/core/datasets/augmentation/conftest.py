import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.augmentation import create_augmentation
from offroad_seg_core.datasets.augmentation.pipeline import PipelineConfig
from offroad_seg_core.inference.manifest import InputSpec

CROP = (64, 96)
MEAN = (124, 116, 104)
NEEDED = {
    'CenterCrop': {'height': 50, 'width': 70},
    'Crop': {'x_min': 10, 'y_min': 5, 'x_max': 90, 'y_max': 60},
    'CropAndPad': {'percent': [-0.2, 0.2]},
    'CropNonEmptyMaskIfExists': {'height': 50, 'width': 70},
    'RandomCrop': {'height': 50, 'width': 70},
    'RandomResizedCrop': {'size': 'crop_size'},
    'RandomSizedCrop': {'min_max_height': [30, 60], 'size': 'crop_size'},
    'Pad': {'padding': 9},
    'PadIfNeeded': {'min_height': 130, 'min_width': 200},
    'Resize': {'height': 80, 'width': 120},
    'LongestMaxSize': {'max_size': 100},
    'SmallestMaxSize': {'max_size': 70},
    'RandomZoom': {'fit_size': 'input_size'},
    'ClassBalancedCrop': {'size': [40, 50]},
}


@pytest.fixture(scope='session')
def spec():
    """Return an input spec whose mean is a colour of whole numbers."""
    return InputSpec(size=(96, 160), mean=MEAN, std=(58, 57, 57), stride=1)


@pytest.fixture(scope='session')
def frame():
    """Return a frame whose colours name its labels: label n has red 20 n, in smooth regions."""
    rng = np.random.default_rng(7)
    height = cv2.resize(rng.random((6, 9)), (180, 110), interpolation=cv2.INTER_CUBIC)
    labels = np.clip(height * 12, 0, 11).astype(np.uint8)
    image = np.stack([20 * labels, 250 - 20 * labels, np.full_like(labels, 60)], axis=-1)
    labels[:12, :20] = 255
    image.flags.writeable = labels.flags.writeable = False  # frames may be cached: nobody writes
    return image, labels


@pytest.fixture(scope='session')
def build(spec):
    """Return a function that makes the augmentation of some transforms."""

    def build(*transforms, strength=1.0, crop_size=CROP):
        config = PipelineConfig(kind='pipeline', transforms=transforms)
        return create_augmentation(config, crop_size, spec, strength)

    return build


@pytest.fixture(scope='session')
def only():
    """Return a function that makes the entry of a transform that always runs."""

    def only(name, **options):
        return {'name': name, **NEEDED.get(name, {}), **options, 'p': 1.0}

    return only
