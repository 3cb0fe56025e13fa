"""What a result depends on differs when the result may: labels that mean something else, costs."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.folder import read_folder
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.evaluation.inputs import LabelOptions, TruthOptions, find_truth, open_frames
from offroad_seg_core.evaluation.predictors import RecordedPredictor, SegmenterPredictor
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
from offroad_seg_core.inference.preprocess import CameraView


@pytest.fixture
def mapping(drives, tmp_path):
    """Return a function that writes a mapping from the drives' classes to themselves."""

    def write(**changes):
        names = drives.TAXONOMY.names
        pairs = {name: name for name in names} | changes
        lines = ''.join(f'  {name}: {goal}\n' for name, goal in pairs.items())
        path = tmp_path / 'mapping.yaml'
        path.write_text(f'source: falcon10\ntarget: falcon10\nclasses:\n{lines}')
        return str(path)

    return write


def test_what_truth_means_is_part_of_it(drives, mapping, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 2)
    (tmp_path / 'labels').mkdir()
    cv2.imwrite(str(tmp_path / 'labels' / 'a.png'), drives.scene()[1])
    frames = open_frames(drive)

    def identities(options):
        for place in ('auto', str(drive), str(tmp_path / 'labels')):
            truth = find_truth(frames, drives.TAXONOMY, replace(options, place=place))
            yield truth.identity()

    known = list(identities(TruthOptions()))
    assert known == list(identities(TruthOptions()))
    path = mapping()
    variants = [TruthOptions(taxonomy='rugd', mapping='rugd_to_falcon10'),
                TruthOptions(mapping=path), TruthOptions(format='raw_ids')]  # fmt: skip
    told = [known, *(list(identities(options)) for options in variants)]
    mapping(Rocks='Sky')  # the same file says something else
    told.append(list(identities(TruthOptions(mapping=path))))
    for kind in zip(*told, strict=True):
        assert len({repr(identity) for identity in kind}) == len(told)


def test_what_a_drive_elsewhere_is_labelled_with_is_part_of_it(drives, mapping, tmp_path):
    options = LabelOptions(drives.TAXONOMY, TruthOptions(mapping=mapping()))
    known = options.identity()
    assert options.identity() == known
    mapping(Rocks='Sky')
    assert options.identity() != known
    (tmp_path / 'labels' / 'front').mkdir(parents=True)
    folder = LabelOptions(drives.TAXONOMY, TruthOptions(str(tmp_path / 'labels')))
    known = folder.identity()
    (tmp_path / 'labels' / 'front' / 'a.png').touch()
    assert folder.identity() != known


def test_what_a_dataset_is_mapped_to_is_part_of_it(drives, tmp_path):
    labels, truth = drives.scene()
    for name, picture in (('images', drives.TAXONOMY.palette_bgr[labels]), ('labels', truth)):
        (tmp_path / 'set' / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'set' / name / '0.png'), picture)
    frames = read_folder(tmp_path / 'set', drives.TAXONOMY)
    other = replace(frames.reader, unknown='ignore')
    changed = FrameSet(frames.files, frames.taxonomy, other, frames.origin)
    known, got = (DatasetFrames(entry, 'mine').identity() for entry in (frames, changed))
    assert known == DatasetFrames(frames, 'mine').identity()
    assert got != known


def test_costs_of_recorded_labels_are_part_of_them(drives):
    costs = drives.TAXONOMY.cost_table()
    known = RecordedPredictor(drives.TAXONOMY, costs, {'model': 'live'}).identity()
    assert RecordedPredictor(drives.TAXONOMY, costs.copy(), {'model': 'live'}).identity() == known
    costs = costs.copy()
    costs[drives.ROCKS] += 1
    assert RecordedPredictor(drives.TAXONOMY, costs, {'model': 'live'}).identity() != known


def test_where_the_robot_is_seen_is_part_of_the_labels(predictor):
    def identity(row):
        mask = np.zeros((4, 6), bool)
        mask[row] = True
        views = {'front': CameraView(ego_mask=mask)}
        return SegmenterPredictor(predictor._segmenter, views).identity()

    assert identity(0) == identity(0)
    assert identity(0) != identity(3)
