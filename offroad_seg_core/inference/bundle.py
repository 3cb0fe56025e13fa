"""The model bundle: one folder that holds everything a robot needs to run a model.

    demo_desert/
      manifest.yaml     what the model expects, what its outputs mean, where it comes from
      model.onnx        one ONNX file per precision

A bundle is verified when it is loaded: format version, SHA-256 of every file, paths that stay
inside the folder, a taxonomy that fits the outputs. It is written as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path, PurePosixPath
import shutil
from typing import Any, Literal
import uuid

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
import yaml

from offroad_seg_core.files import sha256_of, sync
from offroad_seg_core.taxonomy import Taxonomy

BUNDLE_FORMAT_VERSION: Literal[1] = 1
MANIFEST_NAME = 'manifest.yaml'

Precision = Literal['fp32', 'fp16', 'bf16', 'int8']


class BundleError(ValueError):
    """A bundle is missing, damaged, of another version, or inconsistent."""


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


class OutputSpec(_Strict):
    """What comes out: logits ``(N, C, height / stride, width / stride)``."""

    kind: Literal['logits'] = 'logits'
    stride: int = Field(ge=1)


class Architecture(_Strict):
    """The model of `offroad_seg_core.models` whose weights the ONNX file holds."""

    name: str
    kwargs: dict[str, Any] = Field(default_factory=dict)


class Manifest(_Strict):
    """The content of manifest.yaml."""

    format_version: Literal[1] = BUNDLE_FORMAT_VERSION
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
            if path.is_absolute() or '..' in path.parts or '\\' in name or name == MANIFEST_NAME:
                raise ValueError(
                    f'got file name {name!r}, expected a relative path inside the bundle folder'
                )
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


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. Make one with :meth:`load`."""

    path: Path
    manifest: Manifest
    taxonomy: Taxonomy

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read and verify a bundle folder.

        Raises:
            BundleError: the folder or a file is missing, the format version is unknown, a hash
                differs, a path leaves the folder, or a class name is not in the taxonomy.
        """
        path = Path(path).expanduser()
        manifest = _read_manifest(path)
        taxonomy = _check_taxonomy(path, manifest)
        for name, expected in manifest.files.items():
            _verify_file(path, name, expected)
        return cls(path, manifest, taxonomy)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the bundle has a file for."""
        return tuple(model.precision for model in self.manifest.models)

    def model_file(self, precision: str) -> Path:
        """Return the ONNX file of a precision; BundleError names what there is."""
        for model in self.manifest.models:
            if model.precision == precision:
                return self.path / model.file
        raise BundleError(
            f'{self.path}: got precision {precision!r}, expected one of {list(self.precisions)}'
        )

    @property
    def identity(self) -> str:
        """A short name for logs: name and the start of the first model's hash."""
        digest = self.manifest.files[self.manifest.models[0].file]
        return f'{self.manifest.name} ({digest[:12]})'


def write_bundle(
    path: str | Path, manifest: Mapping[str, Any], files: Mapping[str, str | Path]
) -> Bundle:
    """Write a bundle folder as a whole and return it, verified.

    Args:
        path: the folder; an existing bundle there is replaced, any other folder is refused.
        manifest: the manifest without `files`.
        files: name inside the bundle → file to copy.

    Raises:
        BundleError: the manifest is invalid; nothing was written then.
    """
    path = Path(path)
    if path.exists() and not (path / MANIFEST_NAME).is_file():
        raise BundleError(f'{path} exists and is no bundle; fix: choose another folder')
    content = dict(manifest)
    content['files'] = {name: sha256_of(source) for name, source in files.items()}
    parsed = _parse_manifest(content, str(path))
    _check_taxonomy(path, parsed)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:8]
    temporary = path.with_name(f'.{path.name}.{unique}.tmp')
    old = path.with_name(f'.{path.name}.{unique}.old')
    try:
        temporary.mkdir()
        for name, source in files.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            sync(target)
        (temporary / MANIFEST_NAME).write_text(_to_yaml(parsed), encoding='utf-8')
        sync(temporary / MANIFEST_NAME)
        sync(temporary)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return Bundle.load(path)


def _to_yaml(manifest: Manifest) -> str:
    content = manifest.model_dump(mode='json', exclude_defaults=False)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=99)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST_NAME
    if not file.is_file():
        what = 'a folder without manifest.yaml' if path.is_dir() else 'no such folder'
        raise BundleError(
            f'bundle {path}: got {what}, expected a bundle folder with manifest.yaml; '
            'fix: give the folder that holds it'
        )
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f'{file} is not valid YAML: {error}') from error
    if not isinstance(content, dict):
        raise BundleError(f'{file}: got {type(content).__name__}, expected a mapping')
    version = content.get('format_version')
    if version != BUNDLE_FORMAT_VERSION:
        raise BundleError(
            f'{file}: got format_version {version!r}, expected {BUNDLE_FORMAT_VERSION}; '
            'fix: export the bundle again with this version of the package'
        )
    return _parse_manifest(content, str(file))


def _parse_manifest(content: Mapping[str, Any], origin: str) -> Manifest:
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        lines = [
            f'  {".".join(map(str, item["loc"])) or "manifest"}: {item["msg"]}'
            + ('' if isinstance(item['input'], dict) else f' (got {item["input"]!r})')
            for item in error.errors()
        ]
        raise BundleError(f'{origin} is not a valid manifest:\n' + '\n'.join(lines)) from error


def _check_taxonomy(path: Path, manifest: Manifest) -> Taxonomy:
    try:
        taxonomy = Taxonomy.from_dict(manifest.taxonomy, origin=str(path / MANIFEST_NAME))
    except ValueError as error:
        raise BundleError(str(error)) from error
    unknown = [name for name in manifest.suppressed_classes if name not in taxonomy.names]
    if unknown:
        raise BundleError(
            f'{path}: suppressed_classes got {unknown}, expected names of the taxonomy '
            f'{taxonomy.name}: {list(taxonomy.names)}'
        )
    return taxonomy


def _verify_file(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f'{file} leads outside the bundle folder {folder}')
    if not file.is_file():
        raise BundleError(f'{file} is missing; fix: copy the whole bundle folder again')
    got = sha256_of(file)
    if got != expected:
        raise BundleError(
            f'{file} is damaged or was changed: got sha256 {got[:16]}…, expected '
            f'{expected[:16]}…; fix: copy the bundle again (git lfs pull, if it comes from git)'
        )
