"""Make a picture look like another place: statistics of unlabelled target frames, transferred.

Each method is a pair of functions: what is measured of a target frame, once and small, and how a
picture is given it. No network is involved.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

# Less contrast than this has no shape to stretch; noise would be blown up instead.
_MAX_GAIN = 4.0


def measure_amplitudes(image: np.ndarray, cycles: int) -> np.ndarray:
    """Return the amplitudes of a picture's low spatial frequencies.

    Args:
        image: ``(H, W, 3)`` uint8.
        cycles: Highest frequency, in periods over the height and over the width.

    Returns:
        ``(3, 2 * cycles + 1, cycles + 1)`` float32, relative to the number of pixels: vertical
        frequencies -cycles to cycles, horizontal ones 0 to cycles (the others mirror them).
    """
    return np.abs(_low_spectrum(_planes(image), cycles))


def adapt_fourier(image: np.ndarray, amplitudes: np.ndarray, beta: float) -> np.ndarray:
    """Swap low-frequency amplitudes for a target's and keep every phase.

    Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, eq. 3-4.
    Only the low band is ever computed, by two matrix products, and only its change is added.

    Args:
        image: ``(H, W, 3)`` uint8.
        amplitudes: Of ``measure_amplitudes``.
        beta: Half the width of the band relative to the shorter side; the band ends where that
            of ``amplitudes`` does. 0 changes nothing.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    short_side = min(image.shape[:2])
    cycles = min(int(beta * short_side), amplitudes.shape[2] - 1, (short_side - 1) // 2)
    if beta == 0:
        return image
    planes = _planes(image)
    top = amplitudes.shape[2] - 1 - cycles
    wanted = amplitudes[:, top : amplitudes.shape[1] - top, : cycles + 1]
    spectrum = _low_spectrum(planes, cycles)
    present = np.abs(spectrum)
    # A frequency that is not there has no phase; 0 is as good as any.
    phase = np.where(present > 0, spectrum / np.maximum(present, 1e-12), 1)
    planes += _from_low_spectrum((wanted - present) * phase, image.shape[:2])
    return _to_image(planes)


def _planes(image: np.ndarray) -> np.ndarray:
    return np.stack(cv2.split(image)).astype(np.float32)


def _to_image(planes: np.ndarray) -> np.ndarray:
    return cv2.merge([cv2.add(plane, 0.0, dtype=cv2.CV_8U) for plane in planes])


@lru_cache(maxsize=32)
def _waves(length: int, low: int, high: int) -> np.ndarray:
    """Return ``exp(-2 pi i k x / length)``, ``(length, high - low + 1)`` complex64."""
    frequencies = np.arange(low, high + 1)
    angles = 2 * np.pi / length * ((np.arange(length)[:, None] * frequencies) % length)
    return np.exp(-1j * angles).astype(np.complex64)


def _low_spectrum(planes: np.ndarray, cycles: int) -> np.ndarray:
    channels, height, width = planes.shape
    across = _waves(width, 0, cycles)
    split = _multiply(planes.reshape(-1, width), np.hstack([across.real, across.imag]))
    rows = (split[:, : cycles + 1] + 1j * split[:, cycles + 1 :]).reshape(channels, height, -1)
    down = _waves(height, -cycles, cycles).T / np.float32(height * width)
    return np.stack([_multiply(down, plane) for plane in rows])


def _from_low_spectrum(spectrum: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    cycles = spectrum.shape[2] - 1
    down = _waves(height, -cycles, cycles).conj()
    rows = np.stack([_multiply(down, plane) for plane in spectrum.astype(np.complex64)])
    rows[..., 1:] *= 2  # each stands for its mirror image, too
    across = _waves(width, 0, cycles)
    split = np.concatenate([rows.real, rows.imag], axis=2).reshape(len(spectrum) * height, -1)
    # Re(a e^{it}) = Re a cos t - Im a sin t, and ``across`` holds cos t and -sin t.
    product = _multiply(split, np.vstack([across.real.T, across.imag.T]))
    return product.reshape(-1, height, width)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a @ b`` of float32 or complex64 matrices, computed by this thread alone.

    NumPy's BLAS starts a thread a core in every worker process; they wait for each other for up
    to ten times as long as the product takes.
    """
    if not np.iscomplexobj(a):
        return cv2.gemm(np.ascontiguousarray(a), np.ascontiguousarray(b), 1, None, 0)
    first, second = (
        np.ascontiguousarray(matrix, np.complex64).view(np.float32).reshape(len(matrix), -1, 2)
        for matrix in (a, b)
    )
    return cv2.gemm(first, second, 1, None, 0).view(np.complex64)[..., 0]


def measure_lab(image: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation of CIELAB, ``(2, 3)`` float32, of an RGB picture."""
    return _moments(_to_lab(image))


def transfer_reinhard(image: np.ndarray, target: np.ndarray, blend: float = 1.0) -> np.ndarray:
    """Give a picture the mean and the standard deviation of a target, channel by channel.

    Reinhard et al., "Color Transfer between Images", 2001, in CIELAB instead of its lab space.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        target: Of ``measure_lab``.
        blend: 0 keeps the picture's own statistics, 1 takes the target's.

    Returns:
        ``(H, W, 3)`` uint8 RGB; colours outside the gamut are clipped.
    """
    lab = _to_lab(image)
    return _to_rgb(_match_moments(lab, target, blend))


def measure_cdf(image: np.ndarray) -> np.ndarray:
    """Return the share of pixels up to each value, ``(3, 256)`` float32, by channel."""
    counts = [np.bincount(plane.ravel(), minlength=256) for plane in cv2.split(image)]
    return (np.cumsum(counts, axis=1) / counts[0].sum()).astype(np.float32)


def transfer_histogram(image: np.ndarray, target: np.ndarray, blend: float = 1.0) -> np.ndarray:
    """Give every channel a target's histogram by one table of grey values.

    Args:
        image: ``(H, W, 3)`` uint8.
        target: Of ``measure_cdf``.
        blend: 0 keeps the picture, 1 takes the target's histogram.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    levels = np.arange(256)
    # The smallest value that at least as many target pixels are below; shares are float32.
    matched = [
        np.searchsorted(wanted, shares - 1e-6)
        for shares, wanted in zip(measure_cdf(image), target, strict=True)
    ]
    table = np.round((1 - blend) * levels + blend * np.minimum(matched, 255))
    return cv2.LUT(image, table.T.astype(np.uint8)[:, None])


def measure_bands(image: np.ndarray, levels: int) -> np.ndarray:
    """Return mean and deviation of each band, ``(levels + 1, 2, 3)`` float32, finest first."""
    return np.stack([_moments(band) for band in _laplacian(_to_lab(image), levels)])


def transfer_bands(image: np.ndarray, target: np.ndarray, blend: float = 1.0) -> np.ndarray:
    """Align mean and deviation of feature channels with a target's: AdaIN.

    Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization", ICCV 2017, eq. 8. Theirs are channels of VGG, turned back into pictures by a
    decoder trained for it; these are the bands of a Laplacian pyramid of CIELAB, whose decoder is
    the sum. So colour, contrast and sharpness at each scale are transferred, textures are not.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        target: Of ``measure_bands``.
        blend: The paper's alpha: 0 keeps the picture, 1 takes the target's statistics.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    bands = _laplacian(_to_lab(image), len(target) - 1)
    matched = [
        _match_moments(band, wanted, blend) for band, wanted in zip(bands, target, strict=True)
    ]
    lab = matched.pop()
    while matched:
        finer = matched.pop()
        lab = cv2.pyrUp(lab, dstsize=finer.shape[1::-1])
        cv2.add(lab, finer, dst=lab)
    return _to_rgb(lab)


def _to_lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.multiply(image, np.float32(1 / 255)), cv2.COLOR_RGB2LAB)


def _to_rgb(lab: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1), alpha=255)


def _moments(channels: np.ndarray) -> np.ndarray:
    return np.stack(cv2.meanStdDev(channels))[..., 0].astype(np.float32)


def _match_moments(channels: np.ndarray, target: np.ndarray, blend: float) -> np.ndarray:
    """Return ``(H, W, 3)`` float32 channels with the target's means and deviations."""
    mean, deviation = _moments(channels)
    gain = np.where(deviation > 1e-4, target[1] / np.maximum(deviation, 1e-4), 1)
    gain = 1 + blend * (np.minimum(gain, _MAX_GAIN) - 1)
    new_mean = mean + blend * (target[0] - mean)
    affine = np.column_stack([np.diag(gain), new_mean - gain * mean])
    return cv2.transform(channels, affine.astype(np.float32))


def _laplacian(channels: np.ndarray, levels: int) -> list[np.ndarray]:
    """Return the bands, finest first, the last being what is left."""
    bands = []
    for _ in range(levels):
        if min(channels.shape[:2]) < 2:
            break
        coarse = cv2.pyrDown(channels)
        bands.append(channels - cv2.pyrUp(coarse, dstsize=channels.shape[1::-1]))
        channels = coarse
    return [*bands, channels]
