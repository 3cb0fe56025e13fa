import os
from pathlib import Path

import cv2
import numpy as np
import pytest


def _real_frames(name):
    default = Path(__file__).parents[3].parent / 'shared' / 'data'
    root = Path(os.environ.get('OFFROAD_SEG_DATA', default)) / name
    if not root.is_dir():
        pytest.skip(f'{root} is not there; set OFFROAD_SEG_DATA to the folder that holds it')
    return root


@pytest.fixture(scope='session')
def falcon_root():
    """Return the folder of real Falcon frames, or skip."""
    return _real_frames('falcon_desert')


@pytest.fixture(scope='session')
def rugd_root():
    """Return the folder of RUGD's sample, or skip."""
    return _real_frames('rugd_sample')


@pytest.fixture(scope='session')
def rellis3d_root():
    """Return the folder of a real RELLIS-3D frame, or skip."""
    return _real_frames('rellis3d_sample')


@pytest.fixture
def make_tree(tmp_path):
    """Return a function that writes small files below a folder: 4 x 6 pictures.

    ``values`` fills a file: a number for a mask of ids, RGB for a picture (grey by default). The
    values of other files, such as lists, are texts.
    """

    def make(paths, values=(90, 90, 90), root=tmp_path):
        for path in [paths] if isinstance(paths, str) else paths:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(values, str):
                file.write_text(values)
            elif isinstance(values, tuple):
                picture = np.full((4, 6, 3), values[::-1], np.uint8)
                file.write_bytes(cv2.imencode(file.suffix.lower(), picture)[1].tobytes())
            else:
                assert cv2.imwrite(
                    str(file), np.full((4, 6), values, np.uint16 if values > 255 else np.uint8)
                )
        return root

    return make
