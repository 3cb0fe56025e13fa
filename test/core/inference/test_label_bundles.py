"""The segmenter on bundles whose graph ends in labels."""

import numpy as np
import pytest
import yaml

from offroad_seg_core.inference.bundle import write_bundle
from offroad_seg_core.inference.engines import EngineInfo, EngineOutput
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions


class FusedEngine:
    """A graph that ends in labels: every pixel is what its red channel says."""

    info = EngineInfo('fused', 'fp32', 'cpu', '1', 0)

    def run(self, images):
        labels = images[:, ::8, ::8, 0].astype(np.int64)
        sure = np.full(labels.shape, 0.75, np.float32)
        return EngineOutput.of('labels', [labels, sure])

    def close(self):
        pass


@pytest.fixture
def fused_bundle(palette_bundle, tmp_path):
    content = yaml.safe_load((palette_bundle / 'manifest.yaml').read_text())
    content.pop('files')
    content['outputs'] = {'kind': 'labels', 'stride': 8, 'num_classes': 10, 'has_confidence': True}
    files = {'model.onnx': palette_bundle / 'model.onnx'}
    return write_bundle(tmp_path / 'fused', content, files)


def test_labels_from_the_graph_take_the_same_way_back(fused_bundle):
    segmenter = Segmenter(fused_bundle, FusedEngine())
    image = np.full((128, 192, 3), 4, np.uint8)
    image[:64] = 9
    result = segmenter.segment(image, want_confidence=True)
    assert (result.label_map[:64] == 9).all()
    assert (result.label_map[64:] == 4).all()
    assert np.unique(result.confidence_u8).tolist() == [191]
    assert result.timings.passes == 1


@pytest.mark.parametrize('options', [{'tta': 'flip'}, {'absent_classes': ('Rocks',)}])
def test_labels_from_the_graph_refuse_what_needs_logits(fused_bundle, options):
    with pytest.raises(ValueError, match='need logits'):
        Segmenter(fused_bundle, FusedEngine(), SegmenterOptions(**options))
