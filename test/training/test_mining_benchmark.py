"""What mining gains is computed anew from kept counts, pair by pair."""

from argparse import Namespace
import json
from pathlib import Path
import sys

import pytest

from offroad_seg_core.config import dump_config

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def mining(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import experiments
    import mining

    monkeypatch.setattr(experiments, 'RESULTS', tmp_path)
    yield mining
    for name in ('ablation', 'experiments', 'mining', 'mining_places', 'report'):
        sys.modules.pop(name, None)


def write(run, right):
    """Landscape and Sky have 100 pixels each; of each so many are right, others swapped."""
    counts = [[0] * 11 for _ in range(10)]
    counts[8][8] = counts[9][9] = right
    counts[8][9] = counts[9][8] = 100 - right
    result = {
        'config': dump_config(run.settings),
        'environments': {'w0': {'confusion_matrix': counts}},
    }
    run.path.parent.mkdir(parents=True, exist_ok=True)
    run.path.write_text(json.dumps(result))


def test_gains_are_of_pairs_of_one_seed(mining):
    options = Namespace(places=('w0',), seeds=(1, 2, 3), budgets=(5,))
    place = mining.PLACES['w0']
    rows, ratios = mining.table(options)
    assert (rows[0]['seeds'], rows[0]['gain'], ratios) == (0, None, {})
    write(place.before(3), 50)
    for seed, (mined, chance) in {1: (90, 80), 2: (60, 70)}.items():
        write(place.before(seed), 50)
        write(mining.tuned_run('mined', 5, place, seed), mined)
        write(mining.tuned_run('random', 5, place, seed), chance)
    write(mining.tuned_run('mined', 5, place, 3), 100)  # without a partner
    (row,), ratios = mining.table(options)
    # IoU of both classes: right / (200 - right).
    gains = [90 / 110 - 80 / 120, 60 / 140 - 70 / 130]
    assert (row['seeds'], row['seeds with a gain']) == (2, 1)
    assert row['before mIoU'] == pytest.approx(50 / 150)
    assert row['mined mIoU'] == pytest.approx((90 / 110 + 60 / 140) / 2)
    assert row['gain'] == pytest.approx(sum(gains) / 2)
    assert ratios == {
        'mined_gain_place_5': pytest.approx(sum(gains) / 2),
        'mined_wins_place_5': 0.5,
    }


def test_a_set_holds_only_its_frames(mining, monkeypatch, tmp_path):
    root = tmp_path / 'here'
    for folder in ('Color_Images', 'Segmentation'):
        (root / 'falcon' / folder).mkdir(parents=True)
        for name in ('w0001', 'w0002'):
            (root / 'falcon' / folder / f'{name}.png').touch()
    import mining_places

    monkeypatch.setattr(mining_places, 'ROOT', root)
    from offroad_seg_core.datasets.falcon import read_falcon

    first, second = read_falcon(root / 'falcon')
    for chosen in (first, second):  # the second time anew
        mining_places.write_set('few', [chosen], root / 'falcon')
        (found,) = read_falcon(root / 'data' / 'mining' / 'few')
        assert (found.stem, found.environment) == (chosen.stem, 'w0')
        assert found.image.resolve() == chosen.image


def test_every_training_is_configured(mining):
    for place in mining.PLACES.values():
        runs = [place.before(1), *mining.tuned_runs(place, 1, (5,))]
        assert len({run.settings.name for run in runs}) == 3
    drives = mining.PLACES['drives']
    runs = [drives.before(1), *mining.tuned_runs(drives, 1, (5,))]
    mixed = runs[1].settings.dataset
    assert mixed.source_names() == ['known', 'chosen']
    assert mixed.sources[0].dataset == runs[0].settings.dataset
    assert str(mixed.sources[1].dataset.root) == 'data/mining/mined_5_drives_1'
