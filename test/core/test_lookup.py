"""Byte look-up: agreement with numpy, in place, views, errors."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.lookup import lookup

TABLE = np.arange(255, -1, -1, np.int16).astype(np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70), st.integers(0, 70))
def test_agrees_with_numpy_at_every_length(seed, height, width):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (height, width), np.uint8)
    table = rng.integers(0, 256, 256, np.uint8)
    np.testing.assert_array_equal(lookup(values, table), table[values])


def test_writes_where_asked():
    values = np.array([[0, 1], [254, 255]], np.uint8)
    out = np.zeros((2, 2), np.uint8)
    assert lookup(values, TABLE, out) is out
    assert out.tolist() == [[255, 254], [1, 0]]
    lookup(values, TABLE, values)
    assert values.tolist() == [[255, 254], [1, 0]]


def test_reads_views_with_gaps():
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, 1:4]
    assert lookup(values, TABLE).tolist() == [[254, 253, 252], [242, 241, 240]]


@pytest.mark.parametrize('values', [np.zeros(3, np.uint16), np.zeros(3, bool)])
def test_only_bytes(values):
    with pytest.raises(ValueError, match='expected uint8'):
        lookup(values, TABLE)


@pytest.mark.parametrize(
    'out', [np.zeros((3, 2), np.uint8), np.zeros((2, 3), bool), np.zeros((2, 6), np.uint8)[:, ::2]]
)
def test_misfit_of_out(out):
    with pytest.raises(ValueError, match=r'expected contiguous uint8 \(2, 3\)'):
        lookup(np.zeros((2, 3), np.uint8), TABLE, out)


def test_table_of_another_size():
    with pytest.raises(ValueError, match=r'table uint8 \(10,\)'):
        lookup(np.zeros(3, np.uint8), TABLE[:10])
