"""Every kind of input, and of input that is no good: what is wrong, what was expected, the fix."""

import re

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.datasets.folder import read_folder
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.evaluation.drive_report.times import TimeAxis
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.frame_table import read_table
from offroad_seg_core.evaluation.inputs import (
    TruthOptions,
    find_truth,
    open_frames,
    recorded_labels,
)
from offroad_seg_core.evaluation.outputs.overlay_video import OverlayVideo
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.sources.combining import LabelledFrames, SeveralSources
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
from offroad_seg_core.evaluation.sources.frame import SourceError, UniqueNames
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name

MIOU = 0.5
"""Of the scene in drives.py."""


def frames_of(source, first_part=0):
    return list(source.frames(first_part, UniqueNames()))


def miou(drives, folder):
    return drives.summary(folder)['scores']['together']['scores']['miou_present']


def test_pictures_and_label_files_are_matched_by_name_or_stamp(drives, predictor, tmp_path):
    labels, truth = drives.scene()
    pictures, by_name, by_stamp = (tmp_path / name for name in ('pictures', 'names', 'stamps'))
    for folder in (pictures, by_name, by_stamp):
        folder.mkdir()
    for index in range(3):
        stem = f'left_170000000{index}.500000000'
        cv2.imwrite(str(pictures / f'{stem}.png'), drives.TAXONOMY.palette_bgr[labels])
        cv2.imwrite(str(by_name / f'{stem}.png'), truth)
        cv2.imwrite(str(by_stamp / f'170000000{index}500000000.png'), truth)
    (pictures / 'notes.txt').write_text('-')
    for place in (by_name, by_stamp):
        options = TruthOptions(str(place))
        folder = drives.run(pictures, predictor, tmp_path / 'result', truth=options)
        assert miou(drives, folder) == MIOU
    told = drives.summary(folder)
    assert told['source']['kind'] == 'pictures'
    assert told['source']['duration_s'] == 2.0
    assert drives.table(folder)[0]['stamp_ns'] == '1700000000500000000'
    assert drives.summary(drives.run(pictures, predictor, tmp_path / 'none'))['scores'] is None


@pytest.mark.parametrize(
    ('stem', 'stamp_ns'),
    [
        ('1700000000.123456789', 1_700_000_000_123_456_789),
        ('rgb_1700000000_123456789_left', 1_700_000_000_123_456_789),
        ('1700000000123456789', 1_700_000_000_123_456_789),
        ('0000012', None),
        ('20231114_101500', None),
    ],
)
def test_stamps_in_names(stem, stamp_ns):
    assert stamp_in_name(stem) == stamp_ns


def test_datasets(drives, predictor, tmp_path):
    labels, truth = drives.scene()
    for name in ('images', 'labels'):
        (tmp_path / 'set' / name).mkdir(parents=True)
    for index in range(18):
        image = drives.TAXONOMY.palette_bgr[labels]
        cv2.imwrite(str(tmp_path / 'set' / 'images' / f'{index:02d}.png'), image)
        cv2.imwrite(str(tmp_path / 'set' / 'labels' / f'{index:02d}.png'), truth)
    source = DatasetFrames(read_folder(tmp_path / 'set', drives.TAXONOMY), 'mine')
    assert (source.num_frames, source.num_parts) == (18, 2)
    video = OverlayVideo(predictor.cost_table, ())
    evaluation = Evaluation(source, predictor, tmp_path / 'result', sinks=(video,))
    folder = evaluate(evaluation, lambda count: None)
    assert miou(drives, folder) == MIOU
    assert list(drives.summary(folder)['counts']) == ['set']
    rows = drives.table(folder)
    assert [int(row['stamp_ns']) for row in rows] == list(range(18))  # too close for motion
    shown = [frame.time_ns for _, frame in frames_of(open_frames(folder / 'overlay_set.mp4'))]
    assert shown == [n * 200_000_000 for n in range(18)]
    axis = TimeAxis(read_table(folder), drives.summary(folder)['source'])
    assert not axis.is_timed
    assert [axis.seconds('set', int(row['time_ns'])) for row in rows] == list(range(18))


def test_several_drives_as_one_resume_like_one(drives, predictor, tmp_path):
    paths = {n: drives.write_drive(tmp_path / n, ('front',), 20) for n in ('monday', 'friday')}

    def source():
        found = {}
        for name, path in paths.items():
            frames = open_frames(path)
            truth = find_truth(frames, drives.TAXONOMY, drives.AUTO)
            found[name] = LabelledFrames(frames, {'target': truth})
        return SeveralSources(found, ['tuesday was left out'])

    folder = evaluate(Evaluation(source(), predictor, tmp_path / 'r'), lambda count: None)
    told = drives.summary(folder)
    assert set(told['counts']) == {'monday/front', 'friday/front'}
    assert told['notes'] == ['tuesday was left out']
    assert miou(drives, folder) == MIOU
    rows = drives.table(folder)
    assert [row['camera'] for row in rows] == ['monday/front'] * 20 + ['friday/front'] * 20
    parts = [part for part, _ in frames_of(source())]
    assert sorted(set(parts)) == [0, 1, 2, 3]
    assert [f.name for _, f in frames_of(source(), 3)] == [
        r['name'] for r in rows[-parts.count(3) :]
    ]


def test_truth_in_a_bag_of_its_own_and_in_other_classes(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', with_truth=False)
    other = drives.write_drive(tmp_path / 'other')
    folder = drives.run(drive, predictor, tmp_path / 'r', truth=TruthOptions(str(other)))
    assert miou(drives, folder) == MIOU
    named = TruthOptions(str(other), topics={'front': '/rear/ground_truth/label_map'})
    folder = drives.run(drive, predictor, tmp_path / 'r', truth=named)
    assert drives.summary(folder)['num_with_truth'] == 8
    foreign = TruthOptions(str(other), taxonomy='rugd')
    with pytest.raises(DatasetError, match='set mapping to rugd_to_falcon10'):
        drives.run(drive, predictor, tmp_path / 'q', truth=foreign)
    wrong = TruthOptions(str(other), topics={'front': '/nowhere'})
    with pytest.raises(BagError, match=r'label topics /nowhere, expected .* it holds /front/'):
        drives.run(drive, predictor, tmp_path / 'q', truth=wrong)
    with pytest.raises(SourceError, match=r'got no label topics, expected .*--truth-topics'):
        drives.run(drive, predictor, tmp_path / 'q', truth=TruthOptions(str(drive)))


def test_a_recording_of_the_node_is_evaluated_like_a_model(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    drive = drives.write_drive(tmp_path / 'drive', num_frames=6)
    with MessageBag(tmp_path / 'live') as bag:
        for index in (0, 1, 3, 5):  # the node dropped two frames; its clock is another one
            header = Header(drives.START_NS + index * drives.STEP_NS, 'x')
            bag.write_image('/front/segmentation/mask', 7 + index, header, labels, 'mono8')
            sure = np.full(drives.SIZE, 51, np.uint8)
            bag.write_image('/front/segmentation/confidence', 7 + index, header, sure, 'mono8')
    frames = open_frames(drive, ['/front/image_raw'])
    maps = {
        **recorded_labels(tmp_path / 'live'),
        'target': find_truth(frames, drives.TAXONOMY, drives.AUTO),
    }
    recorded = RecordedPredictor(drives.TAXONOMY, drives.TAXONOMY.cost_table(), {'model': 'live'})
    stamp_ns = drives.START_NS + drives.STEP_NS
    source = LabelledFrames(frames, maps)
    latencies = {('front', stamp_ns): 41.5}
    evaluation = Evaluation(source, recorded, tmp_path / 'r', latencies_ms=latencies)
    folder = evaluate(evaluation, lambda count: None)
    rows = drives.table(folder)
    dropped = 'no labels were recorded for it'
    assert [row['problem'] for row in rows] == ['', '', dropped, '', dropped, '']
    assert [row['latency_ms'] for row in rows] == ['', '41.5', '', '', '', '']
    assert {row['mean_confidence'] for row in rows} == {'0.2', ''}
    told = drives.summary(folder)
    assert (told['num_frames'], told['num_labelled']) == (6, 4)
    assert told['recording']['front']['num_failed'] == 2
    # Exactly: landscape right, half of the sky is, rocks missed.
    assert miou(drives, folder) == MIOU
    # Of the valid pixels 3 in 4 are right, and each claimed 0.2.
    assert told['scores']['together']['calibration']['ece'] == pytest.approx(0.55)


def test_a_reference_model_takes_the_place_of_truth(
    drives, predictor, make_palette_bundle, tmp_path
):
    from offroad_seg_core.evaluation.predictors import SegmenterPredictor
    from offroad_seg_core.inference.segmenter import Segmenter

    def other(taxonomy):
        bundle = make_palette_bundle(tmp_path / taxonomy, taxonomy)
        return SegmenterPredictor(Segmenter.open(bundle, 'onnxruntime', num_threads=1))

    drive = drives.write_drive(tmp_path / 'drive', num_frames=2, with_truth=False)
    folder = drives.run(drive, predictor, tmp_path / 'r', reference=other('falcon10'))
    told = drives.summary(folder)
    assert told['num_with_truth'] == 4
    assert miou(drives, folder) == 1
    assert told['reference']['model'].startswith('palette')
    with pytest.raises(ValueError, match='got classes of falcon7 for a model of falcon10'):
        drives.run(drive, predictor, tmp_path / 'q', reference=other('falcon7'))


def test_what_is_wrong_with_single_frames_is_said_and_the_rest_goes_on(
    drives, predictor, tmp_path
):
    labels, truth = drives.scene()
    good = drives.TAXONOMY.palette_bgr[labels]
    stamps = [5, 5, 3, 7, 0, 8, 9]
    encodings = ['thermal14' if stamp == 3 else 'bgr8' for stamp in stamps]
    with MessageBag(tmp_path / 'drive') as bag:
        for index, (stamp, encoding) in enumerate(zip(stamps, encodings, strict=True)):
            header = Header(stamp * 10**9)
            bag.write_image('/front/image_raw', index * 10**8, header, good, encoding)
        small, many = truth[::2], np.full(drives.SIZE, 77, np.uint8)
        targets = ((3, truth), (8, small), (7, many), (5, truth), (9, truth))
        for index, (stamp, target) in enumerate(targets):
            time_ns = index * 10**8 + 10
            bag.write_image(
                '/front/ground_truth/a', time_ns, Header(stamp * 10**9), target, 'mono8'
            )
    folder = drives.run(tmp_path / 'drive', predictor, tmp_path / 'r')
    rows = drives.table(folder)
    problems = [re.sub(r'/tmp\S*', '', row['problem'])[:40] for row in rows]
    assert problems[2].startswith("image encoding: got 'thermal14'")
    assert 'ids' in problems[3]
    assert '77' in rows[3]['problem']
    assert rows[5]['problem'].startswith(
        'target: got size (32, 96), expected (64, 96) of the image'
    )
    assert [problems[i] for i in (0, 1, 4, 6)] == [''] * 4
    # Stamps that repeat or are not set: every frame still has files of its own.
    names = [row['name'] for row in rows]
    assert len(set(names)) == 7
    assert names[:3] == ['5000000000', '5000000000_100000000', '3000000000']
    told = drives.summary(folder)
    assert told['recording']['front']['num_backwards'] == 2
    assert told['recording']['front']['num_repeated'] == 1
    assert (told['num_frames'], told['num_labelled'], told['num_with_truth']) == (7, 6, 1)
    assert [entry['count'] for entry in told['problems']] == [1, 1, 1]


def test_gaps_in_a_recording(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    with MessageBag(tmp_path / 'drive') as bag:
        for index in (0, 1, 2, 3, 7, 8, 9, 11):
            time_ns = 1_000 + index * drives.STEP_NS
            pixels = drives.TAXONOMY.palette_bgr[labels]
            bag.write_image('/front/image_raw', time_ns, Header(time_ns), pixels, 'bgr8')
    folder = drives.run(tmp_path / 'drive', predictor, tmp_path / 'r')
    facts = drives.summary(folder)['recording']['front']
    assert (facts['period_ms'], facts['num_gaps'], facts['num_missing']) == (100.0, 2, 4)
    assert facts['gaps'] == [
        {'start_ns': 300_001_000, 'length_s': 0.4, 'missing': 3},
        {'start_ns': 900_001_000, 'length_s': 0.2, 'missing': 1},
    ]


def test_a_cut_off_bag_is_evaluated_as_far_as_it_goes(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=60)
    file = drive / 'drive.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    folder = drives.run(drive, predictor, tmp_path / 'r')
    told = drives.summary(folder)
    assert 0 < told['num_frames'] < 120
    assert 'has no end' in told['notes'][0]
    assert miou(drives, folder) == MIOU
