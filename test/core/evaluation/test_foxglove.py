"""What Foxglove would read, read back; its layout fits what is in the file."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mcap')

from mcap.reader import make_reader

from offroad_seg_core.bags.camera_topics import COMPRESSED_TYPE
from offroad_seg_core.bags.pictures import decode_picture
from offroad_seg_core.evaluation.outputs.foxglove import (
    ANNOTATIONS,
    FIGURES,
    FoxgloveFile,
    foxglove_layout,
)

LAYOUT = Path(__file__).parents[3] / 'config' / 'foxglove' / 'drive.layout.json'


@pytest.fixture
def messages(drives, predictor, tmp_path):
    """Evaluate a drive in which rocks lie on the left; return topic -> its messages."""
    labels = np.full(drives.SIZE, drives.LANDSCAPE, np.uint8)
    labels[16:48, 16:48] = drives.ROCKS
    from offroad_seg_core.bags.writing import Header, MessageBag

    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(20):
            time_ns = drives.START_NS + index * drives.STEP_NS
            header = Header(time_ns - 5, 'mast')
            pixels = drives.TAXONOMY.palette_bgr[labels]
            bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
    file = tmp_path / 'out.mcap'
    sink = FoxgloveFile(file, predictor.cost_table)
    drives.run(tmp_path / 'drive', predictor, tmp_path / 'result', sinks=(sink,))
    found = {}
    for schema, channel, message in make_reader(io.BytesIO(file.read_bytes())).iter_messages():
        found.setdefault((channel.topic, schema.name), []).append(message)
    return found


def test_pictures_overlays_outlines_and_figures(messages, drives):
    assert set(messages) == {
        ('/front/image', COMPRESSED_TYPE),
        ('/front/overlay', COMPRESSED_TYPE),
        ('/front/annotations', ANNOTATIONS),
        ('/front/figures', FIGURES),
    }
    times = [drives.START_NS + index * drives.STEP_NS for index in range(20)]
    for entries in messages.values():  # two parts, joined
        assert [message.log_time for message in entries] == times
    image, overlay = (
        decode_picture(COMPRESSED_TYPE, messages[f'/front/{name}', COMPRESSED_TYPE][0].data).pixels
        for name in ('image', 'overlay')
    )
    assert image.shape == overlay.shape == (*drives.SIZE, 3)
    expected = drives.TAXONOMY.palette_bgr[drives.ROCKS].astype(int)
    assert np.abs(image[32, 32] - expected).max() < 12
    assert np.abs(overlay[32, 32].astype(int) - image[32, 32]).max() > 30

    annotations = json.loads(messages['/front/annotations', ANNOTATIONS][3].data)
    (outline,) = annotations['points']
    points = np.array([[point['x'], point['y']] for point in outline['points']], np.float32)
    assert cv2.contourArea(points) == pytest.approx(32 * 32, rel=0.15)
    assert (points.min(axis=0) >= 14).all()
    assert (points.max(axis=0) <= 49).all()
    assert annotations['texts'][0]['text'].startswith('confidence ')
    sec, nsec = divmod(times[3] - 5, 10**9)
    assert outline['timestamp'] == {'sec': sec, 'nsec': nsec}

    figures = json.loads(messages['/front/figures', FIGURES][0].data)
    assert figures['costly_share'] == pytest.approx(32 * 32 / (64 * 96), abs=0.05)
    assert figures['timestamp']['nsec'] == (times[0] - 5) % 10**9


def test_the_layout_shows_what_the_file_holds(messages, tmp_path):
    layout = json.loads((tmp_path / 'out.layout.json').read_text())
    topics = {topic for topic, _ in messages}
    text = json.dumps(layout['layout'])
    for name, panel in layout['configById'].items():
        assert f'"{name}"' in text
        if 'imageMode' in panel:
            assert panel['imageMode']['imageTopic'] in topics
            assert set(panel['imageMode']['annotations']) <= topics
        else:
            assert {path['value'].partition('.')[0] for path in panel['paths']} <= topics


def test_the_shipped_layout_is_that_of_the_usual_cameras():
    assert json.loads(LAYOUT.read_text()) == foxglove_layout(('windshield', 'left'))


def test_a_file_inside_the_result(drives, predictor, tmp_path):
    """It outlasts the older result, whose place the new one takes."""
    drive, output = drives.write_drive(tmp_path / 'drive', num_frames=2), tmp_path / 'result'
    for _ in range(2):
        sink = FoxgloveFile(output / 'show' / 'out.mcap', predictor.cost_table, output=output)
        drives.run(drive, predictor, output, sinks=(sink,))
        assert (output / 'show' / 'out.mcap').stat().st_size > 0
        layout = json.loads((output / 'show' / 'out.layout.json').read_text())
        assert layout == foxglove_layout(('front', 'rear'))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['drive', 'result']


def test_another_suffix_is_refused(predictor, tmp_path):
    with pytest.raises(ValueError, match=r'expected a name that ends with \.mcap'):
        FoxgloveFile(tmp_path / 'out.bag', predictor.cost_table)


def test_a_folder_is_no_place_for_the_file(predictor, tmp_path):
    (tmp_path / 'out.mcap').mkdir()
    with pytest.raises(ValueError, match=r'expected a name that .* of no folder'):
        FoxgloveFile(tmp_path / 'out.mcap', predictor.cost_table)
