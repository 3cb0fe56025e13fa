"""What the benchmark of bags holds its speed against, and the bags that it reads."""

from pathlib import Path
import sys

from mcap.reader import make_reader
import pytest

from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.sources.frame import UniqueNames

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def bag_eval(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bag_eval

    monkeypatch.setattr(bag_eval, 'SIZE', (64, 96))
    yield bag_eval
    for name in ('bag_eval', 'report'):
        sys.modules.pop(name, None)


def test_metrics_are_not_part_of_what_must_be_done(bag_eval):
    spent = {'decode': 0.01, 'engine': 0.03, 'write': 0.01, 'metrics': 0.05}
    assert bag_eval.possible_per_s(spent, cores=2) == pytest.approx(40)


@pytest.mark.parametrize(
    ('given', 'topic', 'compression'),
    [
        ({'jpeg': True}, '/windshield/image/compressed', ''),
        ({'jpeg': False, 'zstd': True}, '/windshield/image', 'zstd'),
    ],
)
def test_bags_of_each_kind(bag_eval, tmp_path, given, topic, compression):
    path = bag_eval.write_bag(tmp_path / 'drive', 5, **given)
    with open(path / 'drive.mcap', 'rb') as stream:
        summary = make_reader(stream).get_summary()
    assert {chunk.compression for chunk in summary.chunk_indexes} == {compression}
    source = open_frames(path)
    assert list(source.cameras) == [topic]
    frames = [frame for _, frame in source.frames(0, UniqueNames())]
    assert [frame.load().size for frame in frames] == [(64, 96)] * 5
