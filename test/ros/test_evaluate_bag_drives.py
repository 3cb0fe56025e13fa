"""The command with several drives: what it wrote of them, and what others drew, is read as theirs.

It needs no running ROS.
"""

import json
import shutil

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_ros.compare_labels import main as compare
from offroad_seg_ros.evaluate_bag import main

SIZE = (64, 96)
STEP_NS = 100_000_000
TAXONOMY = load_taxonomy('falcon10')
DAY_NS = 86_400_000_000_000


@pytest.fixture
def evaluate(palette_bundle, tmp_path):
    """Return a function that runs the command; it returns the code and the summary."""

    def run(output, *arguments):
        given = ('--bundle', palette_bundle, '--engine', 'onnxruntime')
        place = tmp_path / output
        code = main([str(word) for word in (*arguments, *given, '--output', place)])
        return code, json.loads((place / 'summary.json').read_text())

    return run


@pytest.fixture
def week(tmp_path):
    """Two drives with equal stamps, as of a simulator, and other labels; the later one first."""
    for turn, name in enumerate(('friday', 'monday')):
        with MessageBag(tmp_path / name) as bag:
            for index in range(1, 4):
                labels = np.full(SIZE, (index + 4 * turn) % TAXONOMY.num_classes, np.uint8)
                picture, header = TAXONOMY.palette_bgr[labels], Header(index * STEP_NS, 'front')
                time_ns = (5 - 4 * turn) * DAY_NS + index * STEP_NS
                bag.write_image('/front/image_raw', time_ns, header, picture, 'bgr8')
    return tmp_path / 'friday', tmp_path / 'monday'


def miou(said):
    return said['scores']['together']['scores']['miou_present']


def test_what_it_wrote_of_several_drives_is_read_again(evaluate, week, tmp_path, capsys):
    assert evaluate('first', *week, '--labels', 'both')[0] == 0
    first = tmp_path / 'first'
    assert (first / 'labels' / 'monday' / 'front' / f'{STEP_NS}.png').is_file()
    for name, labels in (('labels', 'png'), ('labels_bag', 'bag')):
        code, said = evaluate(name, *week, '--truth', first / name, '--labels', labels)
        assert (code, said['num_with_truth'], miou(said), said['notes']) == (0, 6, 1.0, [])
    labels = ('--labels-from', first / 'labels_bag', '--truth', first / 'labels')
    code, said = evaluate('again', *week, *labels)
    assert (code, said['num_labelled'], said['num_with_truth'], miou(said)) == (0, 6, 6, 1.0)
    capsys.readouterr()
    assert compare([str(tmp_path / 'labels'), str(tmp_path / 'labels_bag')]) == 0
    assert capsys.readouterr().out == '6 frames are in both: 6 identical\n'


def test_each_drive_has_a_label_bag_of_its_own(evaluate, week, tmp_path):
    evaluate('both', *week, '--labels', 'bag')
    assert sorted(path.name for path in (tmp_path / 'both' / 'labels_bag').iterdir()) == [
        'friday',
        'monday',
    ]
    for place in week:
        evaluate('alone', place, '--labels', 'bag')
        bags = tmp_path / 'both' / 'labels_bag' / place.name, tmp_path / 'alone' / 'labels_bag'
        messages = []
        for path in bags:
            with open_bag(path) as bag:
                messages.append([(e.topic, t, bytes(data)) for e, t, data in bag.messages()])
                assert bag.end_time - bag.start_time == 2 * STEP_NS + 1
                assert bag.notes == []
        assert messages[0] == messages[1]
        assert len(messages[0]) == 1 + 3 * 3


def test_label_files_of_two_drives_with_frames_of_the_same_names(evaluate, tmp_path):
    for number, name in enumerate('AB'):
        labels = np.full(SIZE, 3 + number, np.uint8)
        truth = tmp_path / 'truth' / name / 'pictures'
        for folder, picture in ((tmp_path / name, TAXONOMY.palette_bgr[labels]), (truth, labels)):
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / '0001.png'), picture)
    inputs = tmp_path / 'A', tmp_path / 'B'
    _, said = evaluate('r', *inputs, '--truth', tmp_path / 'truth')
    assert (said['num_with_truth'], miou(said), said['notes']) == (2, 1.0, [])
    shutil.rmtree(tmp_path / 'truth' / 'B')
    _, said = evaluate('r', *inputs, '--truth', tmp_path / 'truth')
    assert (said['num_with_truth'], miou(said)) == (1, 1.0)
    elsewhere, missing = said['notes']
    assert '1 files such as A/pictures/0001.png lie in none of B/pictures/' in elsewhere
    assert 'got truth of no frame of B' in missing


def test_drives_of_one_name_get_no_labels_by_it(evaluate, week, tmp_path, capsys):
    evaluate('first', *week, '--labels', 'png')
    (tmp_path / 'other').mkdir()
    alike = tmp_path / 'other' / 'monday'
    week[0].rename(alike)
    given = [str(alike), str(week[1]), '--output', str(tmp_path / 'again')]
    for option in ('--truth', '--labels-from'):
        assert main([*given, option, str(tmp_path / 'first' / 'labels')]) == 1
        told = capsys.readouterr().err
        assert f'{alike} and {week[1]} have one name; fix: rename one of these' in told
    assert not (tmp_path / 'again').exists()
