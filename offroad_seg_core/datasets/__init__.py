"""Every dataset by kind. A configuration's ``frames(split, taxonomy)`` returns its frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from offroad_seg_core.config import load_config
from offroad_seg_core.datasets.mixed import MixedConfig, SourceConfig

DatasetConfig = Annotated[SourceConfig | MixedConfig, Field(discriminator='kind')]


def load_dataset(path: str | Path, overrides: Iterable[str] = ()) -> DatasetConfig:
    """Load a dataset's configuration from a YAML file.

    Args:
        path: File with the keys of one dataset, ``kind`` among them.
        overrides: ``'key=value'`` strings, such as ``root=/data/goose``.

    Raises:
        ConfigError: With one line for each mistake.
    """
    return load_config(DatasetConfig, path, overrides)  # type: ignore[arg-type]
