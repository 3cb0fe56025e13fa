"""RViz's panels for the cameras of a launch, from the shipped file as the template."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
import tempfile
from typing import Any

import yaml

from offroad_seg_ros.installation import share_folder

_TEMPLATE_CAMERA = 'windshield'


def shipped_layout() -> Path:
    """Return the file to open by hand: the two default cameras with raw images."""
    return share_folder() / 'config' / 'rviz' / 'segmentation.rviz'


def layout(cameras: Sequence[str], transport: str) -> dict[str, Any]:
    """Return the shipped layout with the first camera's panels repeated for each of these.

    Compressed images are asked for by the topic's ending, which RViz knows where
    compressed_image_transport is installed; RViz itself was not tried with it.
    """
    content = yaml.safe_load(shipped_layout().read_text(encoding='utf-8'))
    manager = content['Visualization Manager']
    image = f'/{_TEMPLATE_CAMERA}/image'
    panels = [
        panel
        for panel in manager['Displays']
        if panel['Topic']['Value'].startswith(f'/{_TEMPLATE_CAMERA}/')
    ]
    manager['Displays'] = []
    for camera in cameras:
        for panel in deepcopy(panels):
            topic = panel['Topic']
            if transport == 'compressed' and topic['Value'] == image:
                topic['Value'] = f'{image}/compressed'
            topic['Value'] = topic['Value'].replace(_TEMPLATE_CAMERA, camera, 1)
            panel['Name'] = panel['Name'].replace(_TEMPLATE_CAMERA, camera, 1)
            manager['Displays'].append(panel)
    return content


def write_layout(cameras: Sequence[str], transport: str) -> str:
    """Write the layout into a temporary file, which outlives the launch, and return its path."""
    with tempfile.NamedTemporaryFile(
        'w', prefix='offroad_seg_', suffix='.rviz', delete=False, encoding='utf-8'
    ) as file:
        yaml.safe_dump(layout(cameras, transport), file, sort_keys=False, allow_unicode=True)
    return file.name
