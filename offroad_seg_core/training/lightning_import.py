"""The one place that imports Lightning, which imports torchvision."""

import warnings

from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

ensure_torchvision_imports()

import lightning.pytorch as lightning  # noqa: E402

# The averaged model is in eval mode on purpose; the sampler resumes at the step by itself; the
# last is between Lightning and torch.
warnings.filterwarnings('ignore', r'Found \d+ module\(s\) in eval mode', category=Warning)
warnings.filterwarnings('ignore', r"You're resuming from a checkpoint", category=Warning)
warnings.filterwarnings('ignore', r'`isinstance\(treespec, LeafSpec\)`', category=Warning)

__all__ = ['lightning']
