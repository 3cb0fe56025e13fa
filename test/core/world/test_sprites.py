import numpy as np
import pytest

from offroad_seg_core.world.sprites import BUILDERS, NUM_BINS, Sprite, warp_sprite


@pytest.mark.parametrize('name', sorted(BUILDERS))
def test_every_shape_can_be_seen_from_every_side(name):
    shape = BUILDERS[name](np.random.default_rng(11))
    areas, heights = [], []
    for direction in range(0, NUM_BINS, 3):
        view = shape.view(direction * 2 * np.pi / NUM_BINS)
        solid = view.gbuffer[..., 0] > 0
        areas.append(solid.sum() / view.px_per_m**2)
        heights.append((view.foot_px[1] - np.flatnonzero(solid.any(axis=1))[0]) / view.px_per_m)
        normal = view.gbuffer[..., 1:][solid].astype(float) / 127.5 - 1.0
        np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=0.05)
    # A log seen end-on shows much less than from its side; nothing vanishes.
    assert min(areas) > 0.1 * max(areas) > 0.01
    assert min(heights) > 0.05


def test_a_sprite_lands_where_its_foot_is():
    picture = np.zeros((40, 20, 4), np.uint8)
    picture[:] = (200, 100, 50, 255)
    sprite = Sprite((picture,), (10.0, 40.0), 40.0)
    warped, alpha, region = warp_sprite(sprite, (30.0, 50.0), 0.5, (0.0, 1.0), (64, 64))
    rows, columns = np.nonzero(alpha > 127)
    assert (rows.min() + region[0].start, rows.max() + region[0].start) == (30, 49)
    assert (columns.min() + region[1].start, columns.max() + region[1].start) == (25, 34)
    np.testing.assert_array_equal(warped[rows[5], columns[5], :3], (200, 100, 50))
    assert warp_sprite(sprite, (-60.0, 50.0), 0.5, (0.0, 1.0), (64, 64)) is None
