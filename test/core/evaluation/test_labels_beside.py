"""Pictures and the label images of one bag: one pass, and none with the labels of another."""

from pathlib import Path
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.bags.reading import Bag, BagError, open_bag
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation import labels_beside
from offroad_seg_core.evaluation.inputs import find_truth, open_frames
from offroad_seg_core.evaluation.labels_beside import PicturesWithLabels
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import UniqueNames

PICTURE, LABELS = '/front/image_raw', '/front/ground_truth/label_map'
STEP_NS, REACH_STEPS = 500_000_000, 4
# (is it a picture, steps since the message before, stamp)
MESSAGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=24
)


def write(path, messages):
    """Write messages whose only pixel is their number; return (is picture, step, stamp)."""
    step, written = 1, []
    with MessageBag(path) as bag:
        for number, (is_picture, pause, stamp) in enumerate(messages):
            step += pause
            topic = PICTURE if is_picture else LABELS
            pixel = np.full((1, 1), number, np.uint8)
            bag.write_image(topic, step * STEP_NS, Header(stamp), pixel, 'mono8')
            written.append((is_picture, step, stamp))
    return written


def expected_of(written, first_step, end_step):
    """Return (number of a picture, number of its labels or None), in the order of the bag."""
    found, used = [], set()
    for number, (is_picture, step, stamp) in enumerate(written):
        if not is_picture or not first_step <= step < end_step:
            continue
        near = [n for n, (_, other, its) in enumerate(written)
                if its == stamp and abs(other - step) <= REACH_STEPS]  # fmt: skip
        maps = [n for n in near if not written[n][0]]
        is_known = stamp > 0 and len(maps) == 1 and len(near) == 2 and maps[0] not in used
        used |= set(maps) if is_known else set()
        found.append((number, maps[0] if is_known else None))
    return found


def read(path, first_step, end_step):
    with open_bag(path) as bag:
        found = PicturesWithLabels(
            bag, {PICTURE: 'front'}, {'t': {LABELS: 'front'}},
            first_step * STEP_NS, end_step * STEP_NS,
        )  # fmt: skip
        return [(p.data[-1], p.labels['t'][1][-1] if p.labels else None) for p in found]


@pytest.mark.parametrize('most_waiting', [0, 150, 1 << 28], ids=['none', 'one', 'all'])
@settings(max_examples=40, deadline=None)
@given(MESSAGES, st.integers(1, 20), st.integers(1, 60))
def test_pictures_get_the_labels_of_their_stamp(most_waiting, messages, first_step, num_steps):
    """Wherever it begins and ends, and however many pictures may wait for what is behind them."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        written = write(Path(home) / 'drive', messages)
        patch.setattr(labels_beside, '_MOST_WAITING_BYTES', most_waiting)
        end_step = first_step + num_steps
        assert read(Path(home) / 'drive', first_step, end_step) == expected_of(
            written, first_step, end_step
        )


def test_a_bag_with_labels_is_read_once(drives, tmp_path, monkeypatch):
    path, passed = drives.write_drive(tmp_path / 'drive', ('front',), 40), []
    messages = Bag.messages

    def counted(self, *arguments):
        for message in messages(self, *arguments):
            passed.append(message[0].topic)
            yield message

    monkeypatch.setattr(Bag, 'messages', counted)
    frames = open_frames(path)
    truth = find_truth(frames, drives.TAXONOMY, drives.AUTO)
    source = LabelledFrames(frames, {'t': truth})
    assert sum('t' in frame.maps for _, frame in source.frames(0, UniqueNames())) == 40
    assert sorted(set(passed)) == [LABELS, PICTURE]
    assert len(passed) == 80


def test_a_bag_that_changes_between_two_readings(tmp_path, monkeypatch):
    path = tmp_path / 'drive'
    write(path, [(True, 1, 5 + n) for n in range(8)])
    write(tmp_path / 'other', [(True, 2, 5 + n) for n in range(8)])
    monkeypatch.setattr(labels_beside, '_MOST_WAITING_BYTES', 0)
    monkeypatch.setattr(labels_beside, 'open_bag', lambda _: open_bag(tmp_path / 'other'))
    with pytest.raises(BagError, match='changed while it was read; fix: run again'):
        read(path, 1, 60)
