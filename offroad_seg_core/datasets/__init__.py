"""Every dataset by kind. A configuration's ``frames(split, taxonomy)`` returns its frames."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.procedural import WorldConfig

DatasetConfig = Annotated[FalconConfig | FolderConfig | WorldConfig, Field(discriminator='kind')]
