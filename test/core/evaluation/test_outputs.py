"""Names of what an evaluation writes, and outputs of drives without any labels."""

from dataclasses import replace
from pathlib import Path
import re

import numpy as np
import pytest

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.label_bag import LABEL_NAMES, LabelBag
from offroad_seg_core.evaluation.outputs.sink import LABEL_BAG, frame_path, safe_name
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.summary import ResultError


def test_different_names_stay_different():
    assert safe_name('left_1700000000.5-b') == 'left_1700000000.5-b'
    alike = [
        'день',
        'ночь',
        'frame (1)',
        'frame [1]',
        'run/front_left',
        'run_front/left',
        '..',
        '',
    ]
    names = [safe_name(text) for text in alike]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r'\w[\w.-]*-[0-9a-f]{8}', name, re.ASCII) for name in names)
    assert names[2].startswith('frame_1_-')
    assert frame_path(Path('x'), 'left', '5.25', '.png') == Path('x/left/5.25.png')
    assert frame_path(Path('x'), 'monday/left', '5', '.png') == Path('x/monday/left/5.png')


def test_drives_of_any_name_have_bags_of_their_own(drives, predictor, tmp_path):
    path = drives.write_drive(tmp_path / 'drive', ('front',), num_frames=1, with_truth=False)
    names = ('monday', 'rosbag2_2024_05_01-10_00_00', 'a-b', 'a b', '7')
    source = SeveralSources({name: open_frames(path) for name in names})
    sinks = (LabelBag(predictor.cost_table, '{}'),)
    evaluation = Evaluation(source, predictor, tmp_path / 'r', sinks=sinks)
    folder = evaluate(evaluation, lambda count: None)
    assert {place.name for place in (folder / LABEL_BAG).iterdir()} == set(map(safe_name, names))
    for name in names:
        with open_bag(folder / LABEL_BAG / safe_name(name)) as bag:
            topics = {entry.topic for entry in bag.connections}
        outputs = ('mask', 'traversability', 'overlay/compressed')
        assert topics == {f'/front/segmentation/{output}' for output in outputs} | {LABEL_NAMES}


class Renamed(BagFrames):
    """Frames of cameras that are called as places of data sets may be."""

    cameras_of_frames = ('front', 'a-b', 'a_b', 'goose/a b', '7')

    def frames(self, first_part, names):
        frames = super().frames(first_part, names)
        for (part, frame), camera in zip(frames, self.cameras_of_frames, strict=True):
            yield part, replace(frame, camera=camera)


def test_cameras_of_any_name_have_topics_of_their_own(drives, predictor, tmp_path):
    path = drives.write_drive(tmp_path / 'drive', ('front',), num_frames=5, with_truth=False)
    sinks = (LabelBag(predictor.cost_table, '{}'),)
    evaluation = Evaluation(Renamed(path), predictor, tmp_path / 'r', sinks=sinks)
    folder = evaluate(evaluation, lambda count: None)
    with open_bag(folder / LABEL_BAG) as bag:
        topics = [e.topic for e in bag.connections if e.topic.endswith('/segmentation/mask')]
    assert len(topics) == len(set(topics)) == 5
    part = r'/[A-Za-z]([A-Za-z0-9]|_(?!_))*'
    assert all(re.fullmatch(f'({part}){{3,4}}', topic) for topic in topics)
    assert {'/front/segmentation/mask', '/a_b/segmentation/mask'} < set(topics)


def test_without_labels_the_reason_is_told(drives, tmp_path):
    path = drives.write_drive(tmp_path / 'drive', ('front',), num_frames=2)
    costs = drives.TAXONOMY.cost_table()
    silent = RecordedPredictor(drives.TAXONOMY, costs, {'model': 'live'})
    sinks = (LabelBag(np.asarray(costs), '{}'),)
    with pytest.raises(
        ResultError, match=r'no frame with labels of 2, .* no labels were recorded'
    ):
        drives.run(path, silent, tmp_path / 'r', sinks=sinks)
