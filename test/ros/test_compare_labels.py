"""The exit codes of compare_labels; it needs no running ROS."""

import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_ros.compare_labels import main


def record(path, values):
    """Write a mask of one value for each (camera, stamp)."""
    with MessageBag(path) as bag:
        for index, ((camera, stamp), value) in enumerate(values.items()):
            mask = np.full((4, 6), value, np.uint8)
            bag.write_image(f'/{camera}/segmentation/mask', index, Header(stamp), mask, 'mono8')
    return str(path)


@pytest.mark.parametrize(
    ('other', 'code', 'told'),
    [
        ({('left', 5): 1, ('right', 6): 2, ('right', 7): 2}, 0, '2 identical'),
        ({('left', 5): 1, ('right', 6): 3}, 1, 'right 6: 100.0000 % of the pixels differ'),
        ({('left', 5): 1, ('right', 9): 2}, 2, 'right: no frame is in both'),
        ({('left', 5): 3, ('right', 9): 2}, 1, 'right: no frame is in both'),
        ({('rear', 5): 1}, 2, '0 frames are in both'),
    ],
)
def test_exit_codes(tmp_path, capsys, other, code, told):
    one = record(tmp_path / 'one', {('left', 5): 1, ('right', 6): 2})
    assert main([one, record(tmp_path / 'other', other)]) == code
    assert told in capsys.readouterr().out
    assert main([one, str(tmp_path / 'nowhere')]) == 2
