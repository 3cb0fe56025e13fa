"""The bundle in models/: every engine gives the same labels on the demo's own frames."""

from pathlib import Path

import numpy as np
import pytest

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineUnavailableError, create_engine
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.world import DEMO_SEED, Drive

FOLDER = Path(__file__).parents[3] / 'models' / 'demo_desert'
MIN_AGREEMENT = {'fp32': 0.9995, 'bf16': 0.98, 'int8': 0.96}
"""Share of pixels whose label equals ONNX Runtime's in float32."""


@pytest.fixture(scope='module')
def bundle():
    return Bundle.load(FOLDER)


@pytest.fixture(scope='module')
def frames():
    drive = Drive(DEMO_SEED, 2, size=(272, 480))
    return [drive.frame(1, camera).frame for camera in ('windshield', 'left')]


@pytest.fixture(scope='module')
def reference(bundle, frames):
    segmenter = Segmenter(bundle, create_engine(bundle, 'onnxruntime', 'fp32'), head='logits')
    return [segmenter.segment(frame.image_rgb, 'rgb').label_map.copy() for frame in frames]


@pytest.mark.parametrize(
    ('name', 'precision'),
    [
        ('openvino', 'fp32'), ('openvino', 'bf16'), ('openvino', 'int8'),
        ('onnxruntime', 'int8'), ('torch', 'fp32'),
    ],
)  # fmt: skip
def test_engines_agree(bundle, frames, reference, name, precision):
    pytest.importorskip(name)
    try:
        segmenter = Segmenter(bundle, create_engine(bundle, name, precision), head='logits')
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    for frame, expected in zip(frames, reference, strict=True):
        label_map = segmenter.segment(frame.image_rgb, 'rgb').label_map
        assert (label_map == expected).mean() >= MIN_AGREEMENT[precision]


def test_coarser_labels_of_the_graph_differ_at_borders_alone(bundle, frames, reference):
    engine = create_engine(bundle, 'onnxruntime', 'fp32')
    segmenter = Segmenter(bundle, engine, head='labels')
    for frame, expected in zip(frames, reference, strict=True):
        label_map = segmenter.segment(frame.image_rgb, 'rgb').label_map
        assert 0.97 <= (label_map == expected).mean() < 1


def test_it_segments_the_drive_it_never_saw(frames, reference):
    matrix = ConfusionMatrix(10)
    for frame, label_map in zip(frames, reference, strict=True):
        matrix.update(label_map, frame.label_map)
    assert matrix.pixel_accuracy > 0.8
    assert matrix.iou()[9] > 0.9  # sky


def test_the_demo_was_not_trained_on(bundle):
    dataset = bundle.manifest.provenance['training']['config']['dataset']
    for split in ('train_seeds', 'validation_seeds'):
        assert DEMO_SEED not in range(*dataset[split])
    train, validation = (range(*dataset[f'{split}_seeds']) for split in ('train', 'validation'))
    assert not set(train) & set(validation)


def test_it_is_small_and_whole(bundle):
    sizes = {path: path.stat().st_size for path in FOLDER.rglob('*') if path.is_file()}
    assert {str(path.relative_to(FOLDER)) for path in sizes} == {
        'README.md', 'manifest.yaml', 'model.onnx', 'model_int8.onnx',
        'frames/00.jpg', 'frames/01.jpg',
    }  # fmt: skip
    assert sum(sizes.values()) <= 12e6
    assert bundle.manifest.provenance['license'] == 'Apache-2.0'
    assert bundle.manifest.outputs.kind == 'fused'


def test_its_card_carries_its_own_figures(bundle):
    card = (FOLDER / 'README.md').read_text()
    metrics = bundle.manifest.metrics
    assert f'{metrics["miou_present"]:.3f}' in card
    for measured in metrics['quantization']['int8'].values():
        assert f'{measured["miou_after"]:.3f}' in card


def test_size_of_the_labels_is_free(bundle, frames):
    segmenter = Segmenter(bundle, create_engine(bundle, 'onnxruntime'))
    for size in ((61, 77), (272, 480)):
        image = np.ascontiguousarray(frames[0].image_rgb[: size[0], : size[1]])
        assert segmenter.segment(image, 'rgb').label_map.shape == size
