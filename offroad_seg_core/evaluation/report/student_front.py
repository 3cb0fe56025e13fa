"""Accuracy against latency, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path

from matplotlib.figure import Figure

from offroad_seg_core.evaluation.report.style import SERIES, SOFT, WARNING, new_figure, tidy
from offroad_seg_core.files import atomic_path
from offroad_seg_core.training.student_selection import Student, Target, front


def as_text(students: Sequence[Student]) -> str:
    """Return a line for each student, fastest first."""
    best = front(students)
    lines = []
    for student in sorted(students, key=lambda s: s.latency_ms):
        miou = '–' if student.miou_present is None else f'{student.miou_present:.4f}'
        mark = '  on the front' if student in best else ''
        lines.append(
            f'{student.name:20} {student.latency_ms:8.1f} ms  mIoU {miou}  '
            f'{student.num_parameters / 1e6:.1f} M{mark}'
        )
    return '\n'.join(lines)


def write_students(students: Sequence[Student], target: Target, output: Path) -> Path:
    """Write ``students.json`` and ``students.png``; return the path of the picture."""
    kept = {'target': asdict(target), 'students': [asdict(student) for student in students]}
    with atomic_path(output / 'students.json') as temporary:
        temporary.write_text(json.dumps(kept, indent=1))
    with atomic_path(output / 'students.png') as temporary:
        draw_front(students, target.budget_ms).savefig(temporary)
    return output / 'students.png'


def draw_front(students: Sequence[Student], budget_ms: float) -> Figure:
    """Draw the trained students, the line of the best ones, and the budget.

    Students that were not trained, because they are too slow, stand at the bottom, hollow.
    """
    figure = new_figure(4.5)
    axes = figure.subplots()
    best = front(students)
    axes.plot(
        [s.latency_ms for s in best], [s.miou_present or 0.0 for s in best],
        color=SERIES[0], drawstyle='steps-post', zorder=1,
    )  # fmt: skip
    for student in students:
        is_trained = student.miou_present is not None
        place = (student.latency_ms, student.miou_present or 0.0)
        axes.plot(
            *place, 'o', color=SERIES[0] if is_trained else SOFT,
            fillstyle='full' if is_trained else 'none', zorder=2,
        )  # fmt: skip
        text = student.name if is_trained else f'{student.name}, not trained'
        axes.annotate(text, place, (4, 6), textcoords='offset points', fontsize=8)
    axes.axvline(budget_ms, color=WARNING, linestyle=':', linewidth=1)
    axes.annotate(
        f'budget {budget_ms:g} ms', (budget_ms, 1), (-4, -10), color=WARNING, fontsize=8,
        xycoords=('data', 'axes fraction'), textcoords='offset points', ha='right',
    )  # fmt: skip
    axes.set(xlabel='ms a frame, median', ylabel='mIoU over the classes present')
    axes.set_xlim(0, 1.25 * max(budget_ms, *(s.latency_ms for s in students)))
    axes.set_ylim(bottom=0)
    tidy(axes, 'both')
    return figure
