"""Videos as sources: times, damage, and which way up they are."""

import struct

import numpy as np
import pytest

from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.sources.frame import SourceError, UniqueNames
from offroad_seg_core.video import open_video


def frames_of(source, first_part=0):
    return list(source.frames(first_part, UniqueNames()))


def test_videos(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    path = tmp_path / 'drive.mp4'
    with open_video(path, drives.SIZE) as video:
        for index in range(20):
            video.write(drives.TAXONOMY.palette_bgr[labels], 0.1 * index)
    folder = drives.run(path, predictor, tmp_path / 'result')
    rows = drives.table(folder)
    assert [int(row['stamp_ns']) for row in rows] == [100_000_000 * n for n in range(20)]
    assert float(rows[19]['share_Landscape']) == pytest.approx(0.5, abs=0.1)
    source = open_frames(path)
    assert [frame.name for _, frame in frames_of(source, 1)] == [f'{n:06d}' for n in range(16, 20)]
    whole = [frame.load().pixels for _, frame in frames_of(source)]
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)  # the last pictures
    path.write_bytes(data)
    damaged = open_frames(path)
    left = [frame.load().pixels for _, frame in frames_of(damaged)]
    assert 1 <= len(left) <= 20
    np.testing.assert_array_equal(left[0], whole[0])
    assert 'damaged, a part was not read' in damaged.notes[0]
    path.write_text('no video')
    with pytest.raises(SourceError, match='expected a video'):
        open_frames(path)


def show_as(video, *display_matrix):
    """Change the matrix in the header of an mp4's track, as phones do."""
    data = bytearray(video.read_bytes())
    start = data.index(b'tkhd') + 44  # behind version, times, id, layer and volume
    assert struct.unpack_from('>9i', data, start) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into('>9i', data, start, *(round(x * 65536) for x in display_matrix))
    video.write_bytes(data)


@pytest.mark.parametrize(
    ('matrix', 'shown'),
    [
        ((0, 1, 0, -1, 0, 0, 32, 0, 16384), ['br', 'wg']),
        ((-1, 0, 0, 0, -1, 0, 64, 32, 16384), ['wb', 'gr']),
        ((0, -1, 0, 1, 0, 0, 0, 64, 16384), ['gw', 'rb']),
        ((-1, 0, 0, 0, 1, 0, 64, 0, 16384), ['gr', 'wb']),
        ((0, 1, 0, 1, 0, 0, 0, 0, 16384), ['rb', 'gw']),
    ],
    ids=['clockwise', 'upside down', 'counterclockwise', 'mirrored', 'mirrored and turned'],
)
def test_videos_are_read_as_players_show_them(tmp_path, matrix, shown):
    colors = {'r': (0, 0, 255), 'g': (0, 255, 0), 'b': (255, 0, 0), 'w': (255, 255, 255)}

    def picture(quarters, size):
        found = np.array([[colors[name] for name in row] for row in quarters], np.uint8)
        return found.repeat(size[0] // 2, 0).repeat(size[1] // 2, 1)

    path = tmp_path / 'drive.mp4'
    with open_video(path, (32, 64)) as video:
        for index in range(2):
            video.write(picture(['rg', 'bw'], (32, 64)), 0.1 * index)
    show_as(path, *matrix)
    expected = picture(shown, (64, 32) if matrix[0] == 0 else (32, 64))
    for _, frame in frames_of(open_frames(path)):
        pixels = frame.load().pixels
        assert pixels.shape == expected.shape
        assert pixels.flags.c_contiguous
        inner = np.s_[4:-4:8, 4:-4:8]  # colours run at the edges
        np.testing.assert_allclose(pixels[inner].astype(int), expected[inner], atol=12)
