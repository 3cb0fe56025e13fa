"""Sources without a single frame that could be labelled say what they hold."""

import numpy as np
import pytest

from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.result import ResultError
from offroad_seg_core.evaluation.sources.frame import SourceError, UniqueNames


def test_bags_without_frames_say_what_they_hold(drives, predictor, tmp_path):
    with MessageBag(tmp_path / 'texts') as bag:
        bag.write_latched('/names', 1, 'x')
    with pytest.raises(BagError, match=r'got no sensor_msgs/Image .* it holds /names \(std_msgs'):
        open_frames(tmp_path / 'texts')
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 2)
    with pytest.raises(BagError, match=r'got /rear, expected topics of sensor_msgs/Image'):
        open_frames(drive, ['/rear'])
    named = open_frames(drive, ['/front/ground_truth/label_map'])
    assert [frame.camera for _, frame in named.frames(0, UniqueNames())] == ['label_map'] * 2
    with pytest.raises(SourceError, match='got --topics, but it is no bag'):
        open_frames(tmp_path, ['/front'])
    with pytest.raises(SourceError, match=r'got no pictures, expected \.jpg'):
        open_frames(tmp_path)
    with pytest.raises(SourceError, match='not there; fix'):
        open_frames(tmp_path / 'nowhere')


def test_when_no_frame_can_be_labelled_the_reason_is_the_error(drives, predictor, tmp_path):
    with MessageBag(tmp_path / 'drive') as bag:
        pixels = np.zeros((4, 4), np.uint8)
        for index in range(3):
            bag.write_image('/front/image_raw', index, Header(index), pixels, 'thermal14')
    message = r"got no frame with labels of 3, expected some: 3 x image encoding: got 'thermal14'"
    with pytest.raises(ResultError, match=message):
        drives.run(tmp_path / 'drive', predictor, tmp_path / 'r')


def test_after_ctrl_c_the_place_that_is_damaged_is_still_told(drives, predictor, tmp_path):
    class Stop(BaseException):
        """Stands for Ctrl-C."""

    drive = drives.write_drive(tmp_path / 'drive', ('front',), 80, (192, 288), with_truth=False)
    lost = drives.damage_chunk(drive, 0)
    seen = []

    def interrupt(count):
        seen.append(count)
        if len(seen) == 16 - lost + 2:  # the first part is complete
            raise Stop

    with pytest.raises(Stop):
        drives.run(drive, predictor, tmp_path / 'r', interrupt)
    folder = drives.run(drive, predictor, tmp_path / 'r')
    told = drives.summary(folder)
    assert told['num_frames'] == 80 - lost
    assert len(told['notes']) == 1
    assert 'damaged after 0.0 s' in told['notes'][0]
