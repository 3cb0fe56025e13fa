"""The rounds of the benchmark of two cameras."""

from itertools import chain, pairwise
from pathlib import Path
import sys

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
WAYS = ['one camera', 'interleaved', 'batched', 'a thread each', 'a stream a core']


@pytest.fixture
def cameras(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cameras

    yield cameras
    for name in ('cameras', 'report'):
        sys.modules.pop(name, None)


def test_every_round_has_every_way_and_none_always_follows_the_same(cameras):
    rounds = cameras.in_rounds(WAYS, 9)
    assert [sorted(order) for order in rounds] == [sorted(WAYS)] * 9
    neighbours = set(pairwise(chain.from_iterable(rounds)))
    for way in WAYS:
        assert len({before for before, after in neighbours if after == way}) >= 3
    assert cameras.in_rounds(WAYS, 9) == rounds
