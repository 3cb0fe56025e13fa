"""Label and cost maps as pictures: colourise, lay over the camera image, contact sheets.

Nothing here knows RGB from BGR: the result has the channel order of the palette, which must be
the image's. Each step is the fastest known one (see benchmarks/imaging.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import LETHAL_COST, UNKNOWN_COST

DEFAULT_ALPHA = 0.45
# (cost, RGB). Teal to green (go), yellow, orange, crimson (stop). Hue runs from the blue to the
# red side and lightness peaks in the middle, so that free and lethal differ for every kind of
# colour vision: blended at DEFAULT_ALPHA over sand, green or dark ground, costs 0-20 and 230-254
# lie at least 19 CIELAB units apart under simulated deuteranopia, protanopia and tritanopia
# (Machado et al. 2009). Crimson and not plain red: over green bushes plain red turns brown.
_COST_STOPS: tuple[tuple[int, tuple[int, int, int]], ...] = (
    (0, (0, 185, 205)),
    (60, (40, 210, 130)),
    (120, (255, 235, 30)),
    (180, (250, 120, 0)),
    (225, (200, 0, 60)),
    (LETHAL_COST, (140, 0, 60)),
)
_UNKNOWN_RGB = (128, 128, 128)
_UNKNOWN_SCALAR = np.array([UNKNOWN_COST], np.uint8)
_SHEET_MARGIN_PX = 6
# Rows worked on at once: what they need stays in the second-level cache.
_STRIP_PX = 1 << 18
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def _cost_palette() -> np.ndarray:
    costs = [cost for cost, _ in _COST_STOPS]
    colors = np.array([color for _, color in _COST_STOPS], np.float64)
    channels = [np.interp(np.arange(256), costs, colors[:, channel]) for channel in range(3)]
    palette = np.stack(channels, axis=1).round().astype(np.uint8)
    palette[UNKNOWN_COST] = _UNKNOWN_RGB
    return palette


TRAVERSABILITY_PALETTE_RGB = _cost_palette()
TRAVERSABILITY_PALETTE_BGR = np.ascontiguousarray(TRAVERSABILITY_PALETTE_RGB[:, ::-1])
TRAVERSABILITY_PALETTE_RGB.flags.writeable = False
TRAVERSABILITY_PALETTE_BGR.flags.writeable = False


def colorize(
    label_map: np.ndarray, palette: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Look up the colour of every pixel.

    Args:
        label_map: Labels or costs, (H, W) uint8.
        palette: Colour of each value, (256, 3) uint8, in the channel order wanted.
        out: (H, W, 3) uint8 to write to.

    Returns:
        ``out`` or a new array, (H, W, 3) uint8.

    Raises:
        ValueError: A shape or type differs from the above.
    """
    _expect('label_map', label_map, label_map.shape[:2])
    _expect('palette', palette, (256, 3))
    if out is None:
        out = np.empty((*label_map.shape, 3), np.uint8)
    _expect('out', out, (*label_map.shape, 3))
    for rows in _strips(label_map.shape):
        _paint(label_map[rows], palette, out[rows])
    return out


def _paint(label_map: np.ndarray, palette: np.ndarray, out: np.ndarray) -> None:
    # OpenCV's applyColorMap takes five times as long.
    cv2.merge([lookup(label_map, channel) for channel in palette.T], dst=out)


def _strips(size: tuple[int, int]) -> Iterator[slice]:
    height, width = size
    step = max(1, _STRIP_PX // max(1, width))
    for top in range(0, height if width else 0, step):
        yield slice(top, min(height, top + step))


def overlay(
    image: np.ndarray,
    label_map: np.ndarray,
    palette: np.ndarray = TRAVERSABILITY_PALETTE_BGR,
    alpha: float = DEFAULT_ALPHA,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Tint an image by labels or costs; where these are 255 (unknown) the image stays as it is.

    Args:
        image: (H, W, 3) uint8, in the palette's channel order.
        label_map: Labels or costs, (H, W) uint8.
        palette: Colour of each value, (256, 3) uint8.
        alpha: Share of the colour, 0 (image only) to 1 (colour only).
        out: (H, W, 3) uint8 to write to; must not share memory with ``image``.

    Returns:
        ``out`` or a new array, (H, W, 3) uint8.

    Raises:
        ValueError: A shape, type or alpha differs from the above.
    """
    _expect('image', image, (*label_map.shape, 3))
    if not 0 <= alpha <= 1:
        raise ValueError(f'alpha: got {alpha}; expected 0 to 1; it is the share of the colour')
    if out is None:
        out = np.empty(image.shape, np.uint8)
    _expect('out', out, image.shape)
    if np.may_share_memory(image, out):
        raise ValueError('out: got memory of image; expected another array; pass out=None')
    # Two tables of 8 bits instead of a blend in floats: at most 1 off, in a third of the time.
    levels = np.arange(256)
    faded = np.rint(levels * (1.0 - alpha)).astype(np.uint8)
    tints = np.rint(palette * alpha).astype(np.uint8)
    for rows in _strips(label_map.shape):
        _tint(image[rows], label_map[rows], faded, tints, out[rows])
    return out


def _tint(
    image: np.ndarray, label_map: np.ndarray, faded: np.ndarray, tints: np.ndarray, out: np.ndarray
) -> None:
    _paint(label_map, tints, out)
    cv2.add(lookup(image, faded), out, dst=out)
    unknown = cv2.inRange(label_map, _UNKNOWN_SCALAR, _UNKNOWN_SCALAR)
    cv2.copyTo(image, unknown, out)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] = (),
    tile_width: int = 480,
) -> np.ndarray:
    """Lay images out in rows, each above its caption.

    Args:
        images: (H, W, 3) uint8 each; the first gives the tiles' aspect, others are fitted in.
        columns: Tiles in a row; fewer images make fewer columns.
        captions: One line for each image, or none at all.
        tile_width: Width of a tile in pixels.

    Returns:
        The sheet, (H, W, 3) uint8.

    Raises:
        ValueError: No images, no columns, or captions for another number of images.
    """
    if not images or columns < 1 or tile_width < 1:
        got = f'{len(images)} images, {columns} columns of {tile_width} px'
        raise ValueError(f'contact sheet: got {got}; expected at least 1 of each')
    if captions and len(captions) != len(images):
        got = f'{len(captions)} captions for {len(images)} images'
        raise ValueError(f'contact sheet: got {got}; expected one for each or none')
    columns = min(columns, len(images))
    height, width = images[0].shape[:2]
    tile_hw = (max(1, round(tile_width * height / width)), tile_width)
    tiles = [fit_inside(image, tile_hw) for image in images]
    if captions:
        tiles = [_caption(tile, text) for tile, text in zip(tiles, captions, strict=True)]
    return _grid(tiles, columns)


def fit_inside(image: np.ndarray, tile_hw: tuple[int, int]) -> np.ndarray:
    """Resize to fit inside a black tile, aspect kept.

    Args:
        image: (H, W, 3) uint8.
        tile_hw: Height and width of the result.
    """
    height, width = image.shape[:2]
    factor = min(tile_hw[0] / height, tile_hw[1] / width)
    fitted_wh = (
        min(tile_hw[1], max(1, round(width * factor))),
        min(tile_hw[0], max(1, round(height * factor))),
    )
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    fitted = cv2.resize(image, fitted_wh, interpolation=interpolation)
    tile = np.zeros((*tile_hw, 3), np.uint8)
    top, left = (tile_hw[0] - fitted_wh[1]) // 2, (tile_hw[1] - fitted_wh[0]) // 2
    tile[top : top + fitted_wh[1], left : left + fitted_wh[0]] = fitted
    return tile


def text_size(text: str, height_px: int) -> tuple[int, int, float, int]:
    """Return width, depth below the baseline (both px), OpenCV font scale and thickness.

    Args:
        text: One line; letters outside ASCII depend on the OpenCV build.
        height_px: Height of a capital letter.
    """
    thickness = max(1, round(height_px / 11))
    scale = cv2.getFontScaleFromHeight(_FONT, height_px, thickness)
    (width, _), depth = cv2.getTextSize(text, _FONT, scale, thickness)
    return width, depth, scale, thickness


def put_text(image: np.ndarray, text: str, left_base: tuple[int, int], height_px: int) -> None:
    """Write white text into an image, ``left_base`` being (x, y) of its baseline's left end."""
    _, _, scale, thickness = text_size(text, height_px)
    color = (255, 255, 255)
    cv2.putText(image, text, left_base, _FONT, scale, color, thickness, cv2.LINE_AA)


def _caption(tile: np.ndarray, text: str) -> np.ndarray:
    """Add a strip with text below a tile; the text shrinks to the tile's width."""
    height_px = max(9, tile.shape[1] // 36)
    strip = np.zeros((height_px * 2, tile.shape[1], 3), np.uint8)
    room = tile.shape[1] - height_px
    while height_px > 5 and text_size(text, height_px)[0] > room:
        height_px -= 1
    put_text(strip, text, (height_px // 2, (strip.shape[0] + height_px) // 2), height_px)
    return np.vstack([tile, strip])


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    step_y, step_x = height + _SHEET_MARGIN_PX, width + _SHEET_MARGIN_PX
    sheet_hw = (rows * step_y + _SHEET_MARGIN_PX, columns * step_x + _SHEET_MARGIN_PX)
    sheet = np.full((*sheet_hw, 3), 24, np.uint8)
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        top, left = row * step_y + _SHEET_MARGIN_PX, column * step_x + _SHEET_MARGIN_PX
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.uint8:
        got = f'{array.shape} {array.dtype}'
        raise ValueError(f'{name}: got {got}; expected {shape} uint8; convert or resize it first')
