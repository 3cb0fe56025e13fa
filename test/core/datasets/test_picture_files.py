import io

import cv2
import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.picture_files import DatasetError, PngHeader, read_image

TAG = 0x0112


@pytest.fixture(scope='module')
def picture():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_LINEAR)


def save(path, rgb, orientation=None, **options):
    image = Image.fromarray(rgb)
    if orientation is not None:
        exif = image.getexif()
        exif[TAG] = orientation
        options['exif'] = exif
    image.save(path, **options)
    return path


def test_png_is_rgb_and_exact(tmp_path, picture):
    assert np.array_equal(read_image(save(tmp_path / 'a.png', picture)), picture)


@pytest.mark.parametrize(
    'options', [{'subsampling': 0}, {'subsampling': 2}, {'progressive': True}]
)
def test_jpeg_is_what_opencv_decodes(tmp_path, picture, options):
    path = save(tmp_path / 'a.jpg', picture, quality=94, **options)
    image = read_image(path)
    assert np.array_equal(image, cv2.imread(str(path))[..., ::-1])
    assert np.abs(image.astype(int) - picture).mean() < 8  # not turned, channels not swapped
    assert image.flags.writeable


@pytest.mark.parametrize('mode', ['L', 'CMYK'])
def test_other_jpeg_modes_become_rgb(tmp_path, picture, mode):
    path = tmp_path / 'a.jpg'
    Image.fromarray(picture).convert(mode).save(path, quality=95)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - cv2.imread(str(path))[..., ::-1]).max() <= 1


def test_grey_png_becomes_rgb(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / 'a.png')
    assert np.array_equal(read_image(tmp_path / 'a.png'), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif', 'a.webp'])
@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_turned_pictures_are_refused(tmp_path, picture, name, orientation):
    path = save(tmp_path / name, picture, orientation)
    match = rf'{name}: got EXIF orientation {orientation}, expected 1 or none; turn the pixels'
    with pytest.raises(DatasetError, match=match):
        read_image(path)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif', 'a.webp'])
def test_upright_pictures_with_exif_are_read(tmp_path, picture, name):
    plain = read_image(save(tmp_path / name, picture))
    assert np.array_equal(read_image(save(tmp_path / name, picture, 1)), plain)
    exif = Image.Exif()
    exif[0x010F] = 'a camera without a sense of gravity'
    Image.fromarray(picture).save(tmp_path / name, exif=exif)
    assert np.array_equal(read_image(tmp_path / name), plain)


@pytest.mark.parametrize('share', [0.6, 0.95])
@pytest.mark.parametrize(
    ('name', 'match'),
    [
        ('a.png', r'a\.png: got a PNG file without its end \(\d+ bytes\); copy'),
        ('a.jpg', r'a\.jpg: got a broken JPEG file \(\d+ bytes\): Premature end of JPEG file'),
    ],
)
def test_half_a_file_is_refused(tmp_path, picture, name, match, share):
    path = save(tmp_path / name, picture)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetError, match=match):
        read_image(path)


def test_a_thumbnail_does_not_hide_a_missing_end(tmp_path, picture):
    thumbnail = io.BytesIO()
    Image.fromarray(picture[::4, ::4].copy()).save(thumbnail, 'JPEG')
    path = save(tmp_path / 'a.jpg', picture)
    data = path.read_bytes()
    block = b'Exif\0\0' + thumbnail.getvalue()
    segment = b'\xff\xe1' + (len(block) + 2).to_bytes(2, 'big') + block
    path.write_bytes((data[:2] + segment + data[2:])[:-400])
    with pytest.raises(DatasetError, match='broken JPEG'):
        read_image(path)


def test_damage_inside_a_png_is_refused(tmp_path, picture):
    path = save(tmp_path / 'a.png', picture)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r'not a picture that OpenCV reads'):
        read_image(path)


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(DatasetError, match=r'none\.png: no such file'):
        read_image(tmp_path / 'none.png')
    (tmp_path / 'empty.png').touch()
    with pytest.raises(DatasetError, match=r'empty\.png: got an empty file \(0 bytes\); copy'):
        read_image(tmp_path / 'empty.png')
    (tmp_path / 'text.png').write_text('no picture')
    with pytest.raises(DatasetError, match=r'not a picture that OpenCV reads \(10 bytes\)'):
        read_image(tmp_path / 'text.png')
    (tmp_path / 'head.jpg').write_bytes(b'\xff\xd8\xff garbage')
    with pytest.raises(DatasetError, match=r'head\.jpg: got a broken JPEG file \(11 bytes\)'):
        read_image(tmp_path / 'head.jpg')
    with pytest.raises(DatasetError, match='directory'):
        read_image(tmp_path)


def test_a_png_signature_alone(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    with pytest.raises(DatasetError, match='PNG file without its end'):
        read_image(tmp_path / 'a.png')
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b'IEND')
    with pytest.raises(DatasetError, match='not a picture'):
        read_image(tmp_path / 'a.png')


def test_png_header(tmp_path):
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(tmp_path / 'a.png')
    assert PngHeader.of((tmp_path / 'a.png').read_bytes()) == (16, 0)
    assert PngHeader.of(b'\xff\xd8\xff') is None
    assert PngHeader.of(b'\x89PNG\r\n\x1a\n') is None
