"""CPU engines run a fused graph for labels and for logits."""

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('torch')

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import (
    EngineError,
    LabelEngine,
    create_engine,
)
from offroad_seg_core.inference.export_head import decoded, fuse_bundle
from offroad_seg_core.inference.head import HeadInputs

ENGINES = ('onnxruntime', 'openvino')
HEADS = (
    HeadInputs.of_classes(10, range(10)),
    HeadInputs.of_classes(10, (0, 3, 9)),
    HeadInputs(np.linspace(-1, 1, 10, dtype=np.float32), 2.0),
)


@pytest.fixture(scope='module')
def plain(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture(scope='module')
def fused(plain, tmp_path_factory):
    return fuse_bundle(plain, tmp_path_factory.mktemp('fused') / 'bundle', 4, {})


@pytest.mark.parametrize('name', ENGINES)
def test_labels_are_those_of_the_logits(plain, fused, name):
    pytest.importorskip(name)
    engine, reference = (create_engine(bundle, name, 'fp32', 1) for bundle in (fused, plain))
    assert isinstance(engine, LabelEngine)
    assert engine.info.gives_labels
    assert not reference.info.gives_labels
    assert engine.info.num_classes == 10
    for shape in ((1, 64, 96), (2, 96, 64)):
        images = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        logits = reference.run(images).logits.copy()
        np.testing.assert_allclose(engine.run(images).logits, logits, atol=1e-4)
        for head in HEADS:
            output = engine.run_labels(images, head)
            labels, confidence = decoded(logits, head, (shape[1] // 4, shape[2] // 4))
            assert output.logits is None
            assert (output.label_map == labels).mean() > 0.999
            np.testing.assert_allclose(output.confidence, confidence, atol=1e-4)
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run_labels(images, HEADS[0])
