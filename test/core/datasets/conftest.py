import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def falcon_root():
    """Return the folder of real Falcon frames, or skip."""
    default = Path(__file__).parents[3].parent / 'shared' / 'data'
    root = Path(os.environ.get('OFFROAD_SEG_DATA', default)) / 'falcon_desert'
    if not root.is_dir():
        pytest.skip(f'{root} is not there; set OFFROAD_SEG_DATA to the folder that holds it')
    return root
