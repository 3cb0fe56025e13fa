"""What training wrote into a run's folder, read back."""

from __future__ import annotations

from collections.abc import Mapping
import colorsys
from contextlib import suppress
import csv
from dataclasses import dataclass
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.config import ConfigError, read_yaml
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import Taxonomy, TaxonomyError, load_taxonomy

STEPS, VALIDATIONS, RESULT, CONFIG = 'steps.csv', 'validation.jsonl', 'result.json', 'config.yaml'


class RunError(ValueError):
    """A folder holds no training run, or one of its files is damaged."""


@dataclass(frozen=True)
class ClassLegend:
    """The classes of a run as figures show them.

    Attributes:
        names: In the order of their ids.
        colors_rgb: ``(C, 3)`` uint8.
        costs: ``(256,)`` uint8, see ``Taxonomy.cost_table``; None if the taxonomy is not known.
    """

    names: tuple[str, ...]
    colors_rgb: np.ndarray
    costs: np.ndarray | None = None

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> ClassLegend:
        """Return names, colours and costs of a taxonomy."""
        colors = taxonomy.palette_rgb[: taxonomy.num_classes]
        return cls(taxonomy.names, colors, taxonomy.cost_table())

    @property
    def palette_rgb(self) -> np.ndarray:
        """Colour of each label, ``(256, 3)`` uint8; black where no class has it."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.names)] = self.colors_rgb
        return palette


@dataclass(frozen=True)
class Validation:
    """One line of ``validation.jsonl``; nan where a score is undefined.

    Attributes:
        step: When it was made.
        pixel_accuracy: 0 to 1.
        miou_present: See ``ConfusionMatrix.miou_present``.
        miou: See ``ConfusionMatrix.miou``.
        iou: Of each class, ``(C,)`` float64.
    """

    step: int
    pixel_accuracy: float
    miou_present: float
    miou: float
    iou: np.ndarray


@dataclass(frozen=True)
class RunRecord:
    """A training run as its files tell of it.

    Attributes:
        name: Of the run.
        path: Its folder, or the file of its result alone.
        classes: What the scores are of; empty if no file says.
        steps: Column -> values at the logged steps, ``(S,)`` float64; empty without a log.
        validations: In the order of their steps.
        matrices: Environment -> counts of the last validation; empty before it.
        result: The content of ``result.json``; empty without it.
        config: The resolved configuration; empty if no file has it.
        notes: What is missing, as sentences.
    """

    name: str
    path: Path
    classes: ClassLegend
    steps: Mapping[str, np.ndarray]
    validations: tuple[Validation, ...]
    matrices: Mapping[str, ConfusionMatrix]
    result: Mapping[str, Any]
    config: Mapping[str, Any]
    notes: tuple[str, ...]


def read_run(path: str | Path) -> RunRecord:
    """Read what there is of a run; any of its files may be missing, but not all.

    Args:
        path: The run's folder, or a ``result.json`` that was kept alone.

    Raises:
        RunError: There is no run, or a file holds something else.
    """
    path = Path(path)
    is_result = path.suffix == '.json'
    folder = path.parent if is_result else path
    files = (
        {RESULT: path}
        if is_result
        else {name: folder / name for name in (STEPS, VALIDATIONS, RESULT, CONFIG)}
    )
    files = {name: file for name, file in files.items() if file.is_file()}
    if not set(files) & {STEPS, VALIDATIONS, RESULT}:
        raise RunError(
            f'{path}: got none of {STEPS}, {VALIDATIONS} and {RESULT}; expected a folder that '
            'training/train.py wrote; give it as runs/NAME'
        )
    notes: list[str] = []
    result = _read_object(files[RESULT]) if RESULT in files else {}
    config = result.get('config') or (_read_config(files[CONFIG]) if CONFIG in files else {})
    rows = _read_rows(files[VALIDATIONS], notes) if VALIDATIONS in files else []
    classes = _classes(result, rows, config)
    steps = _read_steps(files[STEPS], notes) if STEPS in files else {}
    for name, meaning in (
        (STEPS, 'curves of loss and learning rate'),
        (VALIDATIONS, 'curves of the validations'),
        (RESULT, 'scores and confusion matrix of the last validation'),
    ):
        if name not in files:
            notes.append(f'{name} is missing: no {meaning}.')
    return RunRecord(
        name=str(config.get('name') or path.stem),
        path=path,
        classes=classes,
        steps=steps,
        validations=tuple(_validation(row, classes, files[VALIDATIONS]) for row in rows),
        matrices=_matrices(result, classes, files[RESULT]) if result else {},
        result=result,
        config=config,
        notes=tuple(notes),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:  # not JSON, or not even text
        raise RunError(f'{path}: got {error}; expected JSON; copy the file again') from error
    parts = ('environments', 'scores', 'config')
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part, {}), dict) for part in parts
    ):
        raise RunError(f'{path}: got another content; expected the result of a training run')
    return content


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError as error:
        raise RunError(str(error)) from error


def _read_rows(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # the run was killed while it wrote
                notes.append(f'The last line of {path.name} is cut off and was left out.')
                break
            raise RunError(f'{path}, line {number}: got {error}; expected JSON') from error
        if not isinstance(row, dict) or not isinstance(row.get('step'), int):
            raise RunError(f'{path}, line {number}: got no step; expected scores of a validation')
        rows.append(row)
    return rows


def _read_steps(path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    with open(path, newline='', encoding='utf-8', errors='replace') as stream:
        header, *rows = [row for row in csv.reader(stream) if row] or [[]]
    if 'step' not in header:
        raise RunError(f'{path}: got columns {header}; expected step and others')
    values = []
    for number, row in enumerate(rows, 2):
        try:
            if len(row) != len(header):
                raise ValueError(f'{len(row)} values')
            values.append([float(value) for value in row])
        except ValueError as error:
            if number == len(rows) + 1:
                notes.append(f'The last line of {path.name} is cut off and was left out.')
                break
            expected = f'{len(header)} numbers'
            raise RunError(f'{path}, line {number}: got {error}; expected {expected}') from error
    table = np.array(values, np.float64).reshape(len(values), len(header))
    return dict(zip(header, table.T, strict=True))


def _classes(
    result: Mapping[str, Any], rows: list[dict[str, Any]], config: Mapping[str, Any]
) -> ClassLegend:
    """Return the classes that the scores name; colours and costs are the taxonomy's."""
    taxonomy = None
    with suppress(TaxonomyError):  # a file of another machine; the scores have the names
        taxonomy = load_taxonomy(str(config['taxonomy'])) if 'taxonomy' in config else None
    scores = result.get('scores') or (rows[0] if rows else {})
    names = tuple(scores.get('iou') or ())
    if taxonomy is not None and names in ((), taxonomy.names):
        return ClassLegend.of(taxonomy)
    hues = np.arange(len(names)) * 0.618 % 1  # the golden section: neighbours differ
    colors = np.array([colorsys.hsv_to_rgb(hue, 0.6, 0.85) for hue in hues]).reshape(-1, 3)
    return ClassLegend(names, (255 * colors).astype(np.uint8))


def _validation(row: dict[str, Any], classes: ClassLegend, path: Path) -> Validation:
    iou = row.get('iou')
    if not isinstance(iou, dict) or tuple(iou) != classes.names:
        got = list(iou) if isinstance(iou, dict) else iou
        expected = f'of {list(classes.names)}'
        raise RunError(f'{path}, step {row["step"]}: got IoU of {got}; expected {expected}')
    try:
        means = {key: _number(row.get(key)) for key in ('pixel_accuracy', 'miou_present', 'miou')}
        values = np.array([_number(value) for value in iou.values()])
        return Validation(row['step'], iou=values, **means)
    except TypeError as error:
        raise RunError(f'{path}, step {row["step"]}: got {error}; expected numbers') from error


def _matrices(
    result: Mapping[str, Any], classes: ClassLegend, path: Path
) -> dict[str, ConfusionMatrix]:
    count = len(classes.names)
    matrices = {}
    for name, entry in sorted(result.get('environments', {}).items()):
        rows: Any = entry.get('confusion_matrix') if isinstance(entry, dict) else None
        if not isinstance(rows, list) or not len(rows) == count > 0:
            expected = f'{count} rows of {count + 1} counts, one row for each class'
            raise RunError(f'{path}: confusion_matrix of {name}: expected {expected}')
        try:
            matrices[name] = ConfusionMatrix.from_counts(rows, path)
        except ValueError as error:
            raise RunError(f'confusion_matrix of {name}: {error}') from error
    return matrices


def _number(value: Any) -> float:
    """Return a number of the log, nan for null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(repr(value))
    return float(value)
