"""What people look at after the demo: the overlay video and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.files import atomic_path
from offroad_seg_core.legend import (
    LegendEntry,
    class_legend_entries,
    draw_legend,
    legend_entries,
    render_legend,
)
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.video import open_video
from offroad_seg_core.visualization import (
    colorize,
    contact_sheet,
    fit_inside,
    put_text,
    text_size,
)
from offroad_seg_ros.demo_images import read_images
from offroad_seg_ros.demo_inputs import DemoInput
from offroad_seg_ros.demo_replay import output_topic

VIDEO_WIDTH_PX = 1920
"""At most; the cameras share it."""
SHEET_ROWS = 6
_TILE_WIDTH_PX = 480
_TEXT_PX = 13
_BACKGROUND = 24
_Pictures = dict[tuple[str, int], np.ndarray]
"""Camera and stamp → picture."""


def write_video(
    path: Path,
    demo_input: DemoInput,
    outputs: Path,
    taxonomy: Taxonomy,
    on_frame: Callable[[], object],
) -> int:
    """Write the node's overlays, all cameras side by side, at the times of their stamps.

    There is a frame for each overlay of the camera that comes first, with the newest overlay of
    the others. Returns the number of frames; without overlays there is no file.
    """
    cameras = {output_topic(camera.name, 'overlay'): camera.name for camera in demo_input.cameras}
    first = next(read_images(outputs, cameras), None)
    if first is None:
        return 0
    leader, start_ns, _, image = first
    columns, rows = min(len(cameras), 2), -(-len(cameras) // 2)
    width = min(image.shape[1], VIDEO_WIDTH_PX // columns) // 2 * 2
    tile_hw = (round(width * image.shape[0] / image.shape[1]) // 2 * 2, width)
    canvas = np.zeros((rows * tile_hw[0], columns * tile_hw[1], 3), np.uint8)
    places = {topic: divmod(index, columns) for index, topic in enumerate(cameras)}
    legend = legend_entries(taxonomy)
    with open_video(path, canvas.shape[:2]) as video:
        for topic, stamp_ns, _, image in read_images(outputs, cameras):
            row, column = places[topic]
            top, left = row * tile_hw[0], column * tile_hw[1]
            tile = canvas[top : top + tile_hw[0], left : left + tile_hw[1]]
            tile[:] = fit_inside(image, tile_hw)
            _put_name(tile, cameras[topic])
            if topic == leader:
                draw_legend(canvas, legend, 'bottom_left', max(8, tile_hw[0] // 55))
                video.write(canvas, (stamp_ns - start_ns) / 1e9)
            on_frame()
        return video.num_frames


@dataclass(frozen=True)
class _Row:
    """Pictures of one camera at one stamp."""

    camera: str
    stamp_ns: int
    seconds: float


def write_contact_sheet(
    path: Path,
    demo_input: DemoInput,
    outputs: Path,
    taxonomy: Taxonomy,
    stamps: Mapping[str, list[int]],
    title: str,
) -> bool:
    """Write rows of camera image, overlay, class colours and, where it is known, the truth.

    Args:
        path: the PNG to write.
        demo_input: where images and truth are.
        outputs: bag with the node's overlays and masks.
        taxonomy: what the mask's ids mean.
        stamps: camera → header stamps of its masks.
        title: one line above.

    Returns:
        Whether there was anything to show.
    """
    rows = _choose_rows(stamps)
    columns = _read_columns(demo_input, outputs, rows)
    tiles, captions = _tiles(rows, columns, taxonomy)
    if not tiles:
        return False
    sheet = contact_sheet(tiles, len(columns), captions, _TILE_WIDTH_PX)
    width = sheet.shape[1]
    parts = [
        _title(title, width),
        sheet,
        _legend('traversability cost', legend_entries(taxonomy), width),
        _legend('classes', class_legend_entries(taxonomy, taxonomy.palette_bgr), width),
    ]
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack(parts))
    return True


def _tiles(
    rows: list[_Row], columns: Mapping[str, _Pictures], taxonomy: Taxonomy
) -> tuple[list[np.ndarray], list[str]]:
    """Return the pictures of all rows that are complete enough, and their captions."""
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for row in rows:
        place = row.camera, row.stamp_ns
        pictures = {name: images.get(place) for name, images in columns.items()}
        if pictures['camera'] is None or pictures['traversability'] is None:
            continue
        for name, picture in pictures.items():
            if picture is None:  # keeps the columns aligned
                picture = np.full((*pictures['camera'].shape[:2], 3), _BACKGROUND, np.uint8)
            elif picture.ndim == 2 and name != 'camera':
                picture = colorize(picture, taxonomy.palette_bgr)
            elif picture.ndim == 2:
                picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
            tiles.append(picture)
        captions += [f'{row.camera}, {row.seconds:.1f} s', *list(columns)[1:]]
    return tiles, captions


def _choose_rows(stamps: Mapping[str, list[int]]) -> list[_Row]:
    """Spread SHEET_ROWS over the cameras, and evenly over the time of each."""
    rows = []
    for camera, all_stamps in stamps.items():
        ordered = sorted(all_stamps)
        wanted = min(max(1, SHEET_ROWS // len(stamps)), len(ordered))
        for place in range(wanted):
            stamp = ordered[(2 * place + 1) * len(ordered) // (2 * wanted)]
            rows.append(_Row(camera, stamp, (stamp - ordered[0]) / 1e9))
    return rows


def _read_columns(demo_input: DemoInput, outputs: Path, rows: list[_Row]) -> dict[str, _Pictures]:
    """Return column name → (camera, stamp) → picture."""

    def read(bag: Path, topics: Mapping[str, str]) -> _Pictures:
        wanted = {
            topic: {row.stamp_ns for row in rows if row.camera == camera}
            for camera, topic in topics.items()
        }
        names = {topic: camera for camera, topic in topics.items()}
        images = read_images(bag, names, wanted)
        return {(names[topic], stamp): pixels for topic, stamp, _, pixels in images}

    cameras = [camera.name for camera in demo_input.cameras]
    columns = {
        'camera': read(demo_input.bag, {c.name: c.input_topic for c in demo_input.cameras}),
        'traversability': read(outputs, {name: output_topic(name, 'overlay') for name in cameras}),
        'classes': read(outputs, {name: output_topic(name, 'mask') for name in cameras}),
    }
    if demo_input.truth_topics:
        columns['classes, exact'] = read(demo_input.bag, demo_input.truth_topics)
    return columns


def _put_name(tile: np.ndarray, name: str) -> None:
    height_px = max(9, tile.shape[0] // 36)
    width, depth, _, _ = text_size(name, height_px)
    corner = tile[: 2 * height_px + depth, : width + 2 * height_px]
    corner[:] = corner // 3
    put_text(tile, name, (height_px, height_px + height_px // 2 + depth // 2), height_px)


def _title(text: str, width: int) -> np.ndarray:
    band = np.full((3 * _TEXT_PX, width, 3), _BACKGROUND, np.uint8)
    put_text(band, text, (_TEXT_PX, 2 * _TEXT_PX), _TEXT_PX)
    return band


def _legend(name: str, entries: tuple[LegendEntry, ...], width: int) -> np.ndarray:
    """Return a band with a name and the entries in one line, or more where they do not fit."""
    left = text_size(name, _TEXT_PX)[0] + 3 * _TEXT_PX
    for rows in range(1, len(entries) + 1):
        patch = render_legend(entries, _TEXT_PX, (2 * rows + 1) * _TEXT_PX + 2)
        if patch.shape[1] <= width - left:
            break
    band = np.full((max(patch.shape[0], 3 * _TEXT_PX), width, 3), 28, np.uint8)
    put_text(band, name, (_TEXT_PX, 2 * _TEXT_PX), _TEXT_PX)
    patch = patch[:, : width - left]
    band[: patch.shape[0], left : left + patch.shape[1]] = patch
    return band
