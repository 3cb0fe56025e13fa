"""The one place that imports Lightning, which imports torchvision."""

from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

ensure_torchvision_imports()

import lightning.pytorch as lightning  # noqa: E402

__all__ = ['lightning']
