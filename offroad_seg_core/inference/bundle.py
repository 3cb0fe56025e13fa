"""The model bundle: one folder that holds everything a robot needs to run a model.

    demo_desert/
      manifest.yaml     what the model expects, what its outputs mean, where it comes from
      model.onnx        one ONNX file per precision
      README.md         the model card, made of the manifest

A bundle is verified when it is loaded: format version, SHA-256 of every file, paths that stay
inside the folder, a taxonomy that fits the outputs. It is written beside its place and then
renamed into it, never file by file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
from typing import Any
import uuid

from pydantic import ValidationError
import yaml

from offroad_seg_core.files import sha256_of, sync
from offroad_seg_core.inference.manifest import (
    FRAMES_FOLDER,
    MANIFEST_NAME,
    MODEL_CARD_NAME,
    READABLE_VERSIONS,
    Manifest,
)
from offroad_seg_core.inference.model_card import model_card
from offroad_seg_core.taxonomy import Taxonomy


class BundleError(ValueError):
    """A bundle is missing, damaged, of another version, or inconsistent."""


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

    @property
    def frames(self) -> dict[str, Path]:
        """The pictures to check engines on: name inside the bundle → file; often none."""
        names = sorted(self.manifest.files)
        return {name: self.path / name for name in names if name.startswith(f'{FRAMES_FOLDER}/')}

    def model_file(self, precision: str) -> Path:
        """Return the ONNX file of a precision; BundleError names what there is."""
        for model in self.manifest.models:
            if model.precision == precision:
                return self.path / model.file
        raise BundleError(
            f'{self.path}: got precision {precision!r}, expected one of {list(self.precisions)}'
        )

    def source_file(self, precision: str) -> Path:
        """Return the file that an engine computes a precision from.

        That is the precision's own, or else the fp32 file, which engines compute in fp16 and bf16
        themselves; int8 needs its own. BundleError names what there is.
        """
        computable = precision in ('fp16', 'bf16') and precision not in self.precisions
        return self.model_file('fp32' if computable else precision)

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
    taxonomy = _check_taxonomy(path, parsed)
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
        sizes_bytes = {name: (temporary / name).stat().st_size for name in files}
        card = model_card(parsed, taxonomy, sizes_bytes)
        for name, text in ((MODEL_CARD_NAME, card), (MANIFEST_NAME, _to_yaml(parsed))):
            (temporary / name).write_text(text, encoding='utf-8')
            sync(temporary / name)
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
    if version not in READABLE_VERSIONS:
        raise BundleError(
            f'{file}: got format_version {version!r}, expected one of {READABLE_VERSIONS}; '
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
    if taxonomy.num_classes != manifest.outputs.num_classes:
        raise BundleError(
            f'{path}: the model outputs {manifest.outputs.num_classes} classes, but its taxonomy '
            f'{taxonomy.name} has {taxonomy.num_classes}; fix: export with the training taxonomy'
        )
    unknown = [name for name in manifest.suppressed_classes if name not in taxonomy.names]
    if unknown:
        raise BundleError(
            f'{path}: suppressed_classes got {unknown}, expected names of the taxonomy '
            f'{taxonomy.name}: {list(taxonomy.names)}'
        )
    return taxonomy


def _verify_file(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    # `colcon build --symlink-install` links the manifest and the model alike: what counts is that
    # the model lies beside the real manifest.
    home = (folder / MANIFEST_NAME).resolve().parent
    if not file.resolve().is_relative_to(home):
        raise BundleError(f'{file} leads outside the bundle folder {folder}')
    if not file.is_file():
        raise BundleError(f'{file} is missing; fix: copy the whole bundle folder again')
    got = sha256_of(file)
    if got != expected:
        raise BundleError(
            f'{file} is damaged or was changed: got sha256 {got[:16]}…, expected '
            f'{expected[:16]}…; fix: copy the bundle again (git lfs pull, if it comes from git)'
        )
