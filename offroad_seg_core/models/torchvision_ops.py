"""Let torchvision import beside a torch that its wheel was not built for.

torchvision's wheel from PyPI is built against the CUDA torch. Beside a CPU-only torch its
compiled operators are absent and ``import torchvision`` fails while it attaches shape functions
to them; lightning, timm and torchmetrics import it and fail too. Declaring the two schemas is
enough. The compiled operators themselves (box suppression) stay missing; nothing here uses them.
"""

from __future__ import annotations

import sys

import torch

_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
_libraries: list[torch.library.Library] = []  # a library's declarations live as long as it does


def ensure_torchvision_imports() -> None:
    """Import torchvision, if it is installed, with the missing schemas declared if need be."""
    try:
        import torchvision
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if 'operator torchvision::' not in str(error):
            raise
    else:
        return
    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
        library.define(f'{name}{_SCHEMA}')
    _libraries.append(library)
    for module in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[module]
    import torchvision  # noqa: F401
