"""Show frames of each group, with their labels, side by side."""

from __future__ import annotations

from collections.abc import Sequence
import logging

import cv2
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import GroupStatistics
from offroad_seg_core.datasets.analysis.gap_figures import class_patches, plain
from offroad_seg_core.datasets.frames import FrameFiles
from offroad_seg_core.datasets.masks import DatasetError, MaskReader, read_image
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.visualization import overlay

log = logging.getLogger(__name__)

_MAX_EXAMPLES = 4
_TILE_WIDTH_PX = 420
_TILE_INCH = 3.0
_ALPHA = 0.55
_NUM_LEGEND_CLASSES = 30

Tiles = tuple[np.ndarray, np.ndarray | None]


def draw_examples(groups: Sequence[GroupStatistics], taxonomy: Taxonomy) -> Figure | None:
    """Draw up to four of the examples of each group above their labels; None if there are none.

    A frame that cannot be read is left out and logged: one broken file must not cost the report.
    """
    tiles = {group.name: _read_all(group, taxonomy) for group in groups}
    tiles = {name: pairs for name, pairs in tiles.items() if pairs}
    if not tiles:
        return None
    rows = [
        (name, kind, [pair[kind] for pair in pairs])
        for name, pairs in tiles.items()
        for kind in (0, 1)
        if kind == 0 or any(pair[1] is not None for pair in pairs)
    ]
    columns = max(len(pairs) for pairs in tiles.values())
    height, width = rows[0][2][0].shape[:2]  # type: ignore[union-attr]
    row_inch = _TILE_INCH * height / width + 0.08
    classes = [index for index, shown in enumerate(_shown(groups)) if shown][:_NUM_LEGEND_CLASSES]
    legend_inch = 0.25 * -(-len(classes) // 6) + 0.2
    figure = Figure(
        figsize=(_TILE_INCH * columns + 0.6, row_inch * len(rows) + legend_inch),
        dpi=_TILE_WIDTH_PX / _TILE_INCH,
        layout='constrained',
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore
    all_axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (name, kind, images) in zip(all_axes, rows, strict=True):
        row_axes[0].set_ylabel(plain(name) if kind == 0 else 'labels', size=12)
        for axes, image in zip(row_axes, [*images, *[None] * columns], strict=False):
            _show(axes, image)
    if classes:
        patches = class_patches(taxonomy, classes)
        figure.legend(handles=patches, loc='outside lower center', ncols=6, frameon=False)
    return figure


def _read_all(group: GroupStatistics, taxonomy: Taxonomy) -> list[Tiles]:
    tiles = []
    count = len(group.examples)
    chosen = np.linspace(0, count - 1, min(count, _MAX_EXAMPLES)).round().astype(int)
    for files, reader in (group.examples[place] for place in chosen):
        try:
            tiles.append(_read(files, reader, taxonomy))
        except DatasetError as error:
            log.warning('Example left out: %s', error)
    return tiles


def _read(files: FrameFiles, reader: MaskReader, taxonomy: Taxonomy) -> Tiles:
    """Return a small picture and the same under its labels, if it has some."""
    image = read_image(files.image)
    small_wh = (_TILE_WIDTH_PX, max(1, round(_TILE_WIDTH_PX * image.shape[0] / image.shape[1])))
    small = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA)
    if files.label is None:
        return small, None
    label_map = cv2.resize(reader.read(files.label), small_wh, interpolation=cv2.INTER_NEAREST)
    return small, overlay(small, label_map, taxonomy.palette_rgb, _ALPHA)


def _shown(groups: Sequence[GroupStatistics]) -> np.ndarray:
    """Return which classes any group has whose labels are shown, ``(C,)`` bool."""
    pixels = [group.class_pixels * bool(group.examples) for group in groups]
    return np.sum(pixels, axis=0) > 0


def _show(axes: Axes, image: np.ndarray | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image, aspect='equal', interpolation='none')
