import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.taxonomy import Taxonomy

TAXONOMY = Taxonomy.from_dict(
    {
        'name': 'tiny',
        'source': 'test',
        'classes': [
            {
                'id': number,
                'name': name,
                'color': color,
                'raw_ids': raw_ids,
                'group': 'rough',
                'cost': 50,
            }
            for number, (name, color, raw_ids) in enumerate(
                [
                    ('ground', '#aa8855', [100, 101]),
                    ('bush', '#00aa00', [300]),
                    ('rock', '#888888', [7000]),
                ]
            )
        ],
        'ignored_raw_ids': [0],
    }
)


@pytest.fixture(scope='session')
def taxonomy():
    """Return three classes; ground has two raw ids."""
    return TAXONOMY


@pytest.fixture(scope='session')
def reader():
    """Return what reads masks of raw ids of the tiny taxonomy."""
    return MaskReader(TAXONOMY, 'raw_ids')


@pytest.fixture
def make_frame(tmp_path):
    """Return a function that writes an image and its label file, and names both.

    Arrays are encoded, bytes are written as they are, None leaves a file out.
    """

    def make(stem, image=None, label=None, environment='here', instances=None):
        rng = np.random.default_rng(list(stem.encode()))
        if image is None:
            image = rng.integers(0, 256, (8, 10, 3), np.uint8)
        files = {}
        for kind, content in (('image', image), ('label', label), ('instances', instances)):
            if content is None:
                continue
            files[kind] = tmp_path / kind / f'{stem}.png'
            files[kind].parent.mkdir(exist_ok=True)
            if isinstance(content, np.ndarray):
                bgr = content[..., ::-1] if content.ndim == 3 else content
                content = cv2.imencode('.png', np.ascontiguousarray(bgr))[1].tobytes()
            files[kind].write_bytes(content)
        return FrameFiles(files['image'], files.get('label'), environment, files.get('instances'))

    return make


@pytest.fixture
def frame_set():
    """Return a function that makes a frame set of the tiny taxonomy."""

    def make(files, **options):
        return FrameSet(files, TAXONOMY, MaskReader(TAXONOMY, 'raw_ids', **options), 'test')

    return make


@pytest.fixture
def raw():
    """Return a function that makes a 16-bit mask with given numbers of pixels of raw values."""

    def make(size=(8, 10), **pixels):
        values = np.repeat([int(name.removeprefix('v')) for name in pixels], list(pixels.values()))
        mask = np.zeros(size[0] * size[1], np.uint16)
        mask[: len(values)] = values
        return mask.reshape(size)

    return make
