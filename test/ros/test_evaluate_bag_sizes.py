"""Label maps of an evaluation are as large as the pictures, whatever the node's file says."""

import json
import logging

import cv2
import numpy as np
import pytest

from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_ros.demo_inputs import CameraBag
from offroad_seg_ros.evaluate_bag import main

SIZE = (128, 192)  # twice what the network sees
LANDSCAPE = 8


@pytest.mark.parametrize('size', ['engine', '32x48'])
@pytest.mark.parametrize('with_reference', [False, True], ids=['truth', 'reference'])
def test_labels_are_of_camera_size(tmp_path, palette_bundle, caplog, size, with_reference):
    caplog.set_level(logging.INFO)
    truth = np.full(SIZE, LANDSCAPE, np.uint8)
    with CameraBag(tmp_path / 'drive') as bag:
        pixels = load_taxonomy('falcon10').palette_bgr[truth]
        bag.write_picture('left', '/left/image_raw', 10**9, pixels, 'bgr8')
        bag.write_picture('left', '/left/ground_truth/ids', 10**9, truth, 'mono8')
    (tmp_path / 'mine.yaml').write_text(f'/**: {{ros__parameters: {{output_size: {size}}}}}')
    given = ['--bundle', palette_bundle, '--engine', 'onnxruntime', '--export-hard', 1]
    given += ['--params-file', tmp_path / 'mine.yaml', '--output', tmp_path / 'result']
    given += ['--reference', palette_bundle] if with_reference else []
    assert main([str(word) for word in (tmp_path / 'drive', *given)]) == 0
    told = json.loads((tmp_path / 'result' / 'summary.json').read_text())
    assert told['problems'] == []
    assert told['num_with_truth'] == 1
    (mask,) = (tmp_path / 'result' / 'hard_frames' / 'SegmentationClass').glob('*.png')
    assert cv2.imread(str(mask)).shape[:2] == SIZE
    assert f'output_size: got {size}, labels are of camera size here' in caplog.text
