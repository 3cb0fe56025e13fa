"""All scores together: by environment, merged, in any order, as JSON."""

import json
import math
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.metrics.images import ImageScores
from offroad_seg_core.metrics.meter import MeterConfig, SegmentationMeter, Tally
from offroad_seg_core.taxonomy import load_taxonomy

FALCON10 = load_taxonomy('falcon10')
TREES, ROCKS, LANDSCAPE = 0, 7, 8


def ids(*rows):
    return np.array(rows, np.uint8)


@pytest.fixture
def meter():
    """Measure two frames of the east and one of the west."""
    meter = SegmentationMeter(FALCON10)
    target = ids([TREES, TREES, LANDSCAPE], [TREES, ROCKS, 255])
    labels = ids([TREES, LANDSCAPE, LANDSCAPE], [TREES, LANDSCAPE, 3])
    meter.update(labels, target, np.full((2, 3), 0.8), 'east', 'e1')
    meter.update(ids([255, 8]), ids([255, 255]), None, 'east', 'e2')
    meter.update(ids([8, 8]), ids([8, 8]), np.full((1, 2), 255, np.uint8), 'west', 'w1')
    return meter


def test_scores_by_hand(meter):
    report = meter.to_dict()
    assert list(report['environments']) == ['east', 'west']
    east, both = report['environments']['east'], report['together']
    assert east['scores']['num_pixels'] == 5
    assert both['scores']['num_pixels'] == 7
    assert east['scores']['pixel_accuracy'] == pytest.approx(3 / 5)
    assert both['scores']['iou']['Landscape'] == pytest.approx(3 / 5)
    assert both['scores']['false_safe_rate'] == pytest.approx(2 / 4)
    # Three right and two wrong pixels: 3 / (3 + 2 * 2); the frame that is all void is left out.
    assert east['images']['mean_micro_iou'] == pytest.approx(3 / 7)
    assert (east['images']['num_images'], east['images']['num_scored']) == (2, 1)
    assert both['images']['mean_micro_iou'] == pytest.approx((3 / 7 + 1) / 2)
    east_miou = (2 / 3 + 0 + 1 / 3) / 3
    assert both['images']['mean_miou_present'] == pytest.approx((east_miou + 1) / 2)
    assert [entry['frame'] for entry in both['images']['frames']] == ['e1', 'w1']
    assert east['calibration']['ece'] == pytest.approx(0.8 - 3 / 5)
    assert both['calibration']['ece'] == pytest.approx((5 * 0.2 + 2 * 0) / 7)
    assert report['environments']['west']['boundary']['mean_f1'] is None
    assert east['boundary']['iou']['Trees'] == pytest.approx(2 / 3)
    assert 'counts 0' in report['mean_rules']['all_absent_0']


def test_json_has_no_nan(meter):
    text = json.dumps(meter.to_dict(), allow_nan=False)
    assert json.loads(text) == meter.to_dict()


def test_without_boundary_and_confidence():
    meter = SegmentationMeter(FALCON10, MeterConfig(boundary=None))
    meter.update(ids([0, 1]), ids([0, 0]))
    entry = meter.to_dict()['environments']['']
    assert 'boundary' not in entry
    assert entry['calibration']['ece'] is None
    assert entry['scores']['iou']['Trees'] == 0.5


def test_empty_meter():
    report = SegmentationMeter(FALCON10).to_dict()
    assert report['environments'] == {}
    assert report['together']['scores']['miou_present'] is None


def test_a_refused_frame_counts_nowhere(meter):
    before = meter.to_dict()
    target = ids([0, 0])
    with pytest.raises(ValueError, match='confidence: got nan'):
        meter.update(target, target, np.full((1, 2), np.nan), 'east')
    with pytest.raises(ValueError, match=r'label_map: got ids 10'):
        meter.update(ids([0, 10]), target, None, 'north')
    levels = np.zeros((1, 2), np.uint8)
    with pytest.raises(ValueError, match=r'target: got ids 254 \(1 px\); expected 0 to 9 or 255'):
        meter.update(target, ids([0, 254]), levels, 'east')
    with pytest.raises(ValueError, match=r'confidence: got \(2,\) uint8'):
        meter.update(target, target, levels[0], 'east')
    assert meter.to_dict() == before


def tally_of(num_classes, label_map, target, confidence, at_once, part_px=1 << 19):
    """Return the counts and how often each id was predicted, of one pass or of several."""
    tally = Tally(num_classes, MeterConfig(boundary=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('offroad_seg_core.metrics.counting._PART_PX', part_px)
        if not at_once:
            patch.setattr('offroad_seg_core.metrics.meter.MOST_CLASSES_WITH_LEVELS', 0)
        predicted = tally.update(label_map, target, confidence)
    return tally.matrix.counts, tally.calibration.counts, predicted


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 16),
    st.integers(0, 24),
    st.sampled_from([50, 1 << 19]),
)
def test_one_pass_counts_as_several(seed, num_classes, height, part_px):
    rng = np.random.default_rng(seed)
    labels, target = rng.integers(0, num_classes, (2, height, 24), np.uint8)
    labels[:, :9] = target[:, :9]
    for array in (labels, target):
        array[rng.random(array.shape) < rng.choice([0, 0.3, 1])] = 255
    levels = rng.integers(0, 256, target.shape, np.uint8)
    maps = labels, target, levels
    for turned in (maps, [array.T for array in maps], [array[::2, ::-2] for array in maps]):
        at_once = tally_of(num_classes, *turned, True, part_px)
        for counts, expected in zip(at_once, tally_of(num_classes, *turned, False), strict=True):
            np.testing.assert_array_equal(counts, expected)
            assert counts.dtype == expected.dtype


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 16), st.sampled_from(['label_map', 'target', '']))
def test_one_pass_refuses_as_several(seed, num_classes, known):
    rng = np.random.default_rng(seed)
    labels, target = rng.integers(0, num_classes, (2, 5, 5), np.uint8)
    for name, array in (('label_map', labels), ('target', target)):
        if name != known:
            array[rng.integers(5), rng.integers(5)] = rng.integers(num_classes, 255)
    levels = rng.integers(0, 256, target.shape, np.uint8)
    texts = []
    for at_once in (True, False):
        with pytest.raises(ValueError, match=r'got ids .* expected 0 to') as caught:
            tally_of(num_classes, labels, target, levels, at_once)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_costs_of_another_robot():
    costs = FALCON10.cost_table({'Rocks': 20})
    meter = SegmentationMeter(FALCON10, cost_table=costs)
    meter.update(ids([LANDSCAPE]), ids([ROCKS]))
    assert meter.to_dict()['together']['scores']['false_safe_rate'] is None


@pytest.mark.parametrize(
    ('config', 'cost_table', 'message'),
    [
        (MeterConfig(num_bins=256), None, 'num_bins: got 256; expected 1 to 255'),
        (MeterConfig(costly_from=0), None, 'costly_from: got 0; expected 1 to 254'),
        (None, np.zeros(10), r'cost_table: got \(10,\) float64'),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(config, cost_table, message):
    with pytest.raises(ValueError, match=message):
        SegmentationMeter(FALCON10, config, cost_table)


def test_meters_travel_between_processes(meter):
    assert pickle.loads(pickle.dumps(meter)).to_dict() == meter.to_dict()


def test_merge_refuses_other_meters(meter):
    for other in (
        SegmentationMeter(load_taxonomy('falcon7')),
        SegmentationMeter(FALCON10, MeterConfig(num_bins=10)),
        SegmentationMeter(FALCON10, cost_table=FALCON10.cost_table({'Rocks': 20})),
    ):
        with pytest.raises(ValueError, match='expected equal taxonomies, configs and costs'):
            meter.merge(other)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_order_and_parts_change_nothing(seed, cut):
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(6):
        target, labels = rng.integers(0, 10, (2, 5, 6), np.uint8)
        target[rng.random(target.shape) < 0.2] = 255
        environment = str(rng.choice(['east', 'west', 'north']))
        frames.append((labels, target, rng.random(target.shape), environment, f'{number}'))

    def measure(chosen):
        meter = SegmentationMeter(FALCON10)
        for frame in chosen:
            meter.update(*frame)
        return meter

    whole = measure(frames).to_dict()
    order = rng.permutation(6)
    assert measure([frames[index] for index in order]).to_dict() == whole
    first, second = measure(frames[:cut]), measure(frames[cut:])
    parts = first.to_dict(), second.to_dict()
    merged = second.merge(first)
    assert merged.to_dict() == whole
    merged.update(*frames[0])
    assert (first.to_dict(), second.to_dict()) == parts


@pytest.mark.parametrize('seed', range(5))
def test_agreement_with_segmentation_models_pytorch(seed):
    torch = pytest.importorskip('torch')
    ensure_torchvision_imports = pytest.importorskip(
        'offroad_seg_core.models.torchvision_ops'
    ).ensure_torchvision_imports
    ensure_torchvision_imports()
    smp = pytest.importorskip('segmentation_models_pytorch')
    rng = np.random.default_rng(seed)
    target, labels = rng.integers(0, 5, (2, 4, 6, 6), np.uint8)
    target[rng.random(target.shape) < 0.3] = 255
    meter = SegmentationMeter(FALCON10)
    for prediction, truth in zip(labels, target, strict=True):
        meter.update(prediction, truth)
    signed = torch.from_numpy(np.where(target == 255, -100, target.astype(np.int64)))
    stats = smp.metrics.get_stats(
        torch.from_numpy(labels.astype(np.int64)), signed, 'multiclass', -100, num_classes=10
    )
    total = meter.to_dict()['together']
    for reduction, ours in (
        ('micro-imagewise', total['images']['mean_micro_iou']),
        ('micro', total['scores']['micro_iou']),
        ('macro', total['scores']['miou_all_absent_1']),
    ):
        assert ours == pytest.approx(float(smp.metrics.iou_score(*stats, reduction)), abs=1e-6)


def test_no_image_has_no_mean():
    assert math.isnan(ImageScores().mean_micro_iou)
    assert ImageScores().ranked() == []
