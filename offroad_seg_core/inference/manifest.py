"""What a bundle's manifest.yaml may say, and what it means."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BUNDLE_FORMAT_VERSION: Literal[2] = 2
READABLE_VERSIONS = (1, BUNDLE_FORMAT_VERSION)
"""1 knows no fused graphs; everything in it means the same here."""
MANIFEST_NAME, MODEL_CARD_NAME = 'manifest.yaml', 'README.md'
FRAMES_FOLDER = 'frames'
"""Files under it are pictures to check engines on."""

Precision = Literal['fp32', 'fp16', 'bf16', 'int8']


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class InputSpec(_Strict):
    """What the network wants to see."""

    size: tuple[int, int]
    """Network input (height, width), px."""
    resize: Literal['letterbox', 'stretch'] = 'letterbox'
    """`letterbox` keeps the aspect ratio and pads right and bottom; `stretch` fills the input."""
    color_order: Literal['rgb', 'bgr'] = 'rgb'
    mean: tuple[float, float, float]
    """Subtracted from 0–255 values, in `color_order`."""
    std: tuple[float, float, float]
    """Divides afterwards, in `color_order`."""
    stride: int = Field(default=32, ge=1)
    """Height and width of any input must be multiples of this."""

    @field_validator('std')
    @classmethod
    def _positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError(f'got std {std}, expected values above 0')
        return std

    @model_validator(mode='after')
    def _fits_stride(self) -> InputSpec:
        if min(self.size) <= 0 or any(side % self.stride for side in self.size):
            fixed = tuple(max(1, -(-side // self.stride)) * self.stride for side in self.size)
            raise ValueError(
                f'got input size {self.size}, expected multiples of stride {self.stride}; '
                f'fix: {fixed}'
            )
        return self


class ModelFile(_Strict):
    """One ONNX file and the precision its graph computes in."""

    precision: Precision
    file: str
    is_checked: bool = False
    """Whether its accuracy was measured against the file that it was made from, and found within
    limits (`metrics` holds the figures). Precision `auto` takes an int8 file only then."""


class OutputSpec(_Strict):
    """What comes out, at the input's size over `stride`."""

    kind: Literal['logits', 'labels', 'fused'] = 'logits'
    """`logits` ``(N, C, h, w)`` float, or `labels` ``(N, h, w)`` integer from an argmax in the
    graph, optionally followed by their probability ``(N, h, w)`` float. `fused`: either, as one
    asks for them by name, see inference/export_head.py."""
    stride: int = Field(ge=1)
    num_classes: int = Field(ge=1, le=255)
    """Channels of the logits, or number of class ids."""
    has_confidence: bool = False
    """Whether `labels` come with their probability; `fused` graphs always give it."""
    label_stride: int | None = Field(default=None, ge=1)
    """Of `fused` graphs: the labels' size is the input's over this; divides `stride`."""

    @model_validator(mode='after')
    def _labels_fit(self) -> OutputSpec:
        is_fused, stride = self.kind == 'fused', self.label_stride
        if is_fused != (stride is not None) or (stride is not None and self.stride % stride):
            raise ValueError(
                f'got kind {self.kind!r} with label_stride {stride}, expected a divisor of the '
                f'stride {self.stride} for fused graphs and none for others'
            )
        return self


class Architecture(_Strict):
    """The model of `offroad_seg_core.models` whose weights the ONNX file holds."""

    name: str
    kwargs: dict[str, Any] = Field(default_factory=dict)


class Manifest(_Strict):
    """The content of manifest.yaml."""

    format_version: Literal[1, 2] = BUNDLE_FORMAT_VERSION
    name: str = Field(min_length=1)
    taxonomy: dict[str, Any]
    input: InputSpec
    models: tuple[ModelFile, ...] = Field(min_length=1)
    outputs: OutputSpec
    architecture: Architecture | None = None
    suppressed_classes: tuple[str, ...] = ()
    """Classes that are never output, by name."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    """Relative file name → SHA-256."""

    @field_validator('files')
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or '..' in path.parts or '\\' in name:
                raise ValueError(
                    f'got file name {name!r}, expected a relative path inside the bundle folder'
                )
            if name in (MANIFEST_NAME, MODEL_CARD_NAME):
                raise ValueError(f'got file name {name!r}, which every bundle has of its own')
        return files

    @model_validator(mode='after')
    def _consistent(self) -> Manifest:
        missing = [model.file for model in self.models if model.file not in self.files]
        if missing:
            raise ValueError(f'models name {missing}, but `files` has no hash for them')
        precisions = [model.precision for model in self.models]
        if len(set(precisions)) != len(precisions):
            raise ValueError(f'got precisions {precisions}, expected each at most once')
        return self
