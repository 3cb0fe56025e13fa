import av
import numpy as np
import pytest

from offroad_seg_core.video import join_videos, open_video


def _frames(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'  # what browsers play
        return [(float(f.time), f.to_ndarray(format='bgr24')) for f in container.decode(stream)]


def test_video_keeps_times_and_colours_and_cuts_odd_edges(tmp_path):
    path = tmp_path / 'a.mp4'
    shades = [40, 120, 200]
    with open_video(path, (65, 99)) as video:
        for shade, time_s in zip(shades, [0.0, 0.25, 2.0], strict=True):
            image = np.full((65, 99, 3), (shade, 90, 30), np.uint8)
            video.write(image, time_s)
    frames = _frames(path)
    assert [time_s for time_s, _ in frames] == pytest.approx([0.0, 0.25, 2.0])
    for (_, image), shade in zip(frames, shades, strict=True):
        assert image.shape == (64, 98, 3)
        assert np.abs(image.reshape(-1, 3).mean(axis=0) - (shade, 90, 30)).max() < 8


def test_equal_times_are_kept_apart(tmp_path):
    path = tmp_path / 'a.mp4'
    with open_video(path, (32, 32)) as video:
        for time_s in (0.0, 0.0, -1.0):
            video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    assert [round(time_s * 1000) for time_s, _ in _frames(path)] == [0, 1, 2]


def test_a_failed_video_leaves_the_older_one(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'older')
    with (
        pytest.raises(ValueError, match=r'got \(16, 32, 3\) uint8; expected \(32, 32, 3\)'),
        open_video(path, (32, 32)) as video,
    ):
        video.write(np.zeros((16, 32, 3), np.uint8), 0.0)
    assert path.read_bytes() == b'older'
    assert [file.name for file in tmp_path.iterdir()] == ['a.mp4']


def test_a_video_needs_pixels(tmp_path):
    with pytest.raises(ValueError, match='2 px or more'), open_video(tmp_path / 'a.mp4', (1, 9)):
        pass


def test_joined_videos_keep_pictures_and_times(tmp_path):
    starts, shades = (0.5, 3.0, 3.01), iter(range(20, 250, 20))
    pieces, expected = [], []
    for index, start_s in enumerate(starts):
        path = tmp_path / f'{index}.mp4'
        with open_video(path, (48, 64)) as video:
            for time_s in (0.0, 0.1, 0.9):
                shade = next(shades)
                video.write(np.full((48, 64, 3), shade, np.uint8), time_s)
                expected.append((start_s + time_s, shade))
        pieces.append((start_s, path))
    join_videos(tmp_path / 'all.mp4', pieces)
    frames = _frames(tmp_path / 'all.mp4')
    assert [image.mean() for _, image in frames] == pytest.approx(
        [shade for _, shade in expected], abs=5
    )
    # The second and the third piece overlap: what would go back in time is shown next.
    times = [time_s for time_s, _ in frames]
    assert times[:6] == pytest.approx([time_s for time_s, _ in expected[:6]], abs=2e-3)
    assert times[6:] == pytest.approx([3.9, 3.9, 3.91], abs=2e-3)
    assert times == sorted(set(times))
