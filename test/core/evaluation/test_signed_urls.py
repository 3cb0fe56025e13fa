"""Drives behind URLs that are signed: what is behind the name of the file is no part of it."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import json
import threading

import pytest

pytest.importorskip('aiohttp', reason='fsspec reads https with it')
pytest.importorskip('mcap')

from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.foxglove import FoxgloveFile, foxglove_layout


@pytest.fixture
def signed(tmp_path):
    """The address of a server that gives files below tmp_path whatever else is asked of it."""
    quiet = type('Quiet', (SimpleHTTPRequestHandler,), {'log_message': lambda *_: None})
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(quiet, directory=tmp_path))
    server.handle_error = lambda *_: None  # fsspec asks for files of which it only wants the head
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/{{}}?X-Amz-Signature=abc/def'
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_signed_drive(drives, predictor, signed, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=2)
    (file,) = drive.glob('*.mcap')
    file.rename(tmp_path / 'monday.mcap')
    source = open_frames(signed.format('monday.mcap'))
    shown = FoxgloveFile(tmp_path / 'show.mcap', predictor.cost_table)
    evaluation = Evaluation(source, predictor, tmp_path / 'result', sinks=(shown,))
    told = drives.summary(evaluate(evaluation, lambda count: None))
    assert told['num_labelled'] == 4
    assert told['title'] == 'monday.mcap'
    assert 'Signature' not in json.dumps(told)
    # Nothing was known of its cameras before it was fetched.
    layout = json.loads((tmp_path / 'show.layout.json').read_text())
    assert layout == foxglove_layout(('front', 'rear'))
