"""Sources without a single frame that could be labelled say what they hold."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.drive_places import drive_name, drive_names
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.parts import Unfinished
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.result import check_place
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import SourceError, UniqueNames
from offroad_seg_core.evaluation.summary import ResultError
from offroad_seg_core.places import OutputError


def test_bags_without_frames_say_what_they_hold(drives, predictor, tmp_path):
    with MessageBag(tmp_path / 'texts') as bag:
        bag.write_latched('/names', 1, 'x')
    with pytest.raises(BagError, match=r'got no topic that .* it holds /names \(std_msgs'):
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


class Unreachable(BagFrames):
    """A drive whose frames cannot be fetched."""

    def frames(self, first_part, names):
        raise OSError('the network is down')
        yield


@pytest.mark.parametrize('order', ['ab', 'ba'])
def test_a_drive_that_fails_is_left_out_also_after_ctrl_c(drives, predictor, tmp_path, order):
    places = {n: drives.write_drive(tmp_path / n, ('front',), 20, (32, 48)) for n in 'ab'}

    def evaluation():
        found = {'a': Unreachable(places['a']), 'b': open_frames(places['b'])}
        source = SeveralSources({name: found[name] for name in order})
        return Evaluation(source, predictor, tmp_path / 'r')

    def interrupt(count):
        seen.append(count)
        if len(seen) == 15:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        evaluate(evaluation(), interrupt)
    told = drives.summary(evaluate(evaluation(), lambda count: None))
    reason = 'a: not evaluated: the network is down'
    assert told['source']['left_out'] == told['notes'] == [reason]
    assert list(told['counts']) == []
    assert (told['num_frames'], told['num_labelled']) == (20, 20)


def test_without_any_drive_the_reasons_are_told(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 2)
    source = SeveralSources({name: Unreachable(drive) for name in 'ab'})
    for _ in range(2):  # nothing is taken for done
        with pytest.raises(SourceError, match='a: not evaluated: the network is down; b: not'):
            evaluate(Evaluation(source, predictor, tmp_path / 'r'), lambda count: None)


def test_recordings_among_other_kinds_of_drives_keep_their_facts(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 4, (32, 48))
    (tmp_path / 'pictures').mkdir()
    pixels = drives.TAXONOMY.palette_bgr[drives.scene((32, 48))[0]]
    cv2.imwrite(str(tmp_path / 'pictures' / '0.png'), pixels)
    source = SeveralSources({'a': open_frames(drive), 'b': open_frames(tmp_path / 'pictures')})
    folder = evaluate(Evaluation(source, predictor, tmp_path / 'r'), lambda count: None)
    told = drives.summary(folder)
    assert list(told['recording']) == ['a/front']
    assert told['recording']['a/front']['period_ms'] == 100.0


@pytest.mark.parametrize('content', ['{', None])
def test_an_unfinished_result_that_cannot_be_read_is_not_removed(tmp_path, content):
    run = tmp_path / 'r.unfinished' / 'run.json'
    run.parent.mkdir()
    (run.parent / 'precious').touch()
    if content:
        run.write_text(content)
    else:
        run.mkdir()  # no user, root neither, can read that as a file
    with pytest.raises((OutputError, OSError), match=r'run\.json'):
        Unfinished(tmp_path / 'r', {}, restart=False)
    assert (run.parent / 'precious').exists()


def test_every_drive_has_a_name_of_its_own(tmp_path):
    (tmp_path / 'drive_2024.05.01').mkdir()
    assert drive_name(tmp_path / 'drive_2024.05.01') == 'drive_2024.05.01'
    assert drive_name('s3://bucket/x/run_2024.05.mcap.zstd') == 'run_2024.05'
    assert drive_name('https://host/x/run.mcap?X-Amz-Signature=abc/def') == 'run'
    assert drive_name('a.MP4') == 'a'
    places = ['monday/run', 'monday/run_2', 'monday/run_3', 'tuesday/run', 'friday/run.db3']
    assert drive_names(places) == dict(
        zip(['run', 'run_2', 'run_3', 'run_4', 'run_5'], places, strict=True)
    )
    # A name that somebody gave is nobody else's, whoever comes first.
    places = ['a/run', 'b/run', 'b/run_2']
    assert drive_names(places) == {'run': 'a/run', 'run_3': 'b/run', 'run_2': 'b/run_2'}
    assert list(drive_names(places).values()) == places


def test_a_result_of_something_else_keeps_its_place(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'monday', ('front',), 2)
    other = drives.write_drive(tmp_path / 'tuesday', ('front',), 2)
    first, second = (Evaluation(open_frames(p), predictor, tmp_path / 'r') for p in (drive, other))
    check_place(first)
    evaluate(first, lambda count: None)
    check_place(first)  # the same again replaces it
    with pytest.raises(OutputError, match=r'a result of .*monday by palette.* --output DIR'):
        check_place(second)
    labels = RecordedPredictor(drives.TAXONOMY, predictor.cost_table, {'model': 'x', 'options': 1})
    with pytest.raises(OutputError, match='expected a free name'):
        check_place(replace(first, predictor=labels))
