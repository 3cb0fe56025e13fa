"""The coarsest labels that cost little enough."""

import cv2
import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.evaluation.label_stride import LabelStrideLimits, choose_label_stride
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy('falcon10')
SKY, ROCKS = TAXONOMY.index('Sky'), TAXONOMY.index('Rocks')


def frames(root, border):
    """Two frames at network size: sky on the left of a border, rocks on the right of it."""
    for name in ('images', 'labels'):
        (root / 'validation' / name).mkdir(parents=True)
    for index in range(2):
        label_map = np.full((64, 96), ROCKS, np.uint8)
        label_map[:, :border] = SKY
        image = TAXONOMY.palette_bgr[label_map]
        cv2.imwrite(str(root / 'validation' / 'images' / f'{index}.png'), image)
        cv2.imwrite(str(root / 'validation' / 'labels' / f'{index}.png'), label_map)
    return FolderConfig(kind='folder', root=root).frames('validation', TAXONOMY)


def choose(palette_bundle, root, border, *limits):
    bundle = Bundle.load(palette_bundle)
    return choose_label_stride(
        bundle, frames(root, border), LabelStrideLimits(*limits), num_threads=1
    )


def test_borders_between_blocks_cost_nothing(palette_bundle, tmp_path):
    stride, report = choose(palette_bundle, tmp_path, 40)
    assert stride == report['label_stride'] == 8
    assert report['num_frames'] == 2
    assert report['limits'] == {'max_miou_loss': 0.003, 'max_boundary_f1_loss': 0.01}
    assert list(report['strides']) == ['8', '4', '2', '1']
    assert report['strides']['8']['miou_present'] == 1
    assert report['strides']['1']['miou_present_loss'] == 0


def test_borders_inside_of_blocks_need_finer_labels(palette_bundle, tmp_path):
    # The block of the border is a mixture of both colours, 3/8 sky: coarse labels call all of it
    # rocks and miss 3 columns of sky.
    stride, report = choose(palette_bundle, tmp_path, 43)
    coarse = report['strides']['8']
    assert coarse['miou_present'] == pytest.approx((40 / 43 + 53 / 56) / 2, abs=1e-6)
    exact = report['strides']['1']['miou_present']
    assert coarse['miou_present_loss'] == pytest.approx(exact - coarse['miou_present'])
    assert coarse['miou_present_loss'] > 0.003
    assert stride < 8
    loss = report['strides'][str(stride)]
    assert loss['miou_present_loss'] <= 0.003
    assert loss['boundary_f1_loss'] <= 0.01


def test_limits_are_a_choice(palette_bundle, tmp_path):
    assert choose(palette_bundle, tmp_path / 'a', 43, 1.0, 1.0)[0] == 8
    assert choose(palette_bundle, tmp_path / 'b', 43, 1.0, 0.0)[0] <= 8
    assert choose(palette_bundle, tmp_path / 'c', 43, 0.0, 1.0)[0] < 8
