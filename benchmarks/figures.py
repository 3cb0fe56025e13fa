"""Draw what the kept trainings say, one dot a run, into docs/images.

python benchmarks/figures.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ablation import FOLDS, VARIANTS, run_of
import distillation_table
from experiments import RESULTS, load, scores_of
import numpy as np
from report import ROOT

from offroad_seg_core.evaluation.report.style import EDGE, SERIES, new_figure, tidy
from offroad_seg_core.files import atomic_path

IMAGES = ROOT / 'docs' / 'images'
FOLDER = RESULTS / 'distillation'
SEEDS = (1, 2, 3)
Panels = Mapping[str, Sequence[tuple[str, Sequence[float]]]]


def ablation_panels() -> Panels:
    """Return, of each environment, every variant with the mIoU of its runs."""
    panels = {}
    for fold in FOLDS:
        rows = []
        for name, (title, _) in VARIANTS.items():
            results = [load(run_of(name, fold, seed)) for seed in SEEDS]
            scores = [scores_of(result, fold)[0] for result in results if result is not None]
            if scores:
                rows.append((title, scores))
        if rows:
            panels[f'never saw {fold}'] = rows
    return panels


def distillation_panels() -> Panels:
    """Return, of known and of new places, every network with the mIoU of its runs."""
    panels: dict[str, list[tuple[str, list[float]]]] = {}
    for variant, title in distillation_table.VARIANTS.items():
        runs = [scores for _, scores in distillation_table.kept_scores(FOLDER, variant)]
        if runs:
            panels.setdefault('known places', []).append((title, [run.known for run in runs]))
            panels.setdefault('new place', []).append((title, [run.new for run in runs]))
    return panels


def draw(panels: Panels, path: Path) -> None:
    """Draw panels side by side: a row for each entry, a dot for each run, a line at the mean."""
    names = list(dict.fromkeys(title for rows in panels.values() for title, _ in rows))
    figure = new_figure(0.8 + 0.27 * len(names), 11)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (heading, rows) in zip(all_axes, panels.items(), strict=True):
        for title, scores in rows:
            place = names.index(title)
            axes.plot(scores, [place] * len(scores), 'o', color=SERIES[0], alpha=0.7, ms=5)
            axes.plot([np.mean(scores)], [place], '|', color=EDGE, ms=14, mew=2)
        baseline = float(np.mean(rows[0][1]))
        axes.axvline(baseline, color=EDGE, linewidth=0.8, linestyle=':')
        axes.set_title(heading, loc='left', size=10)
        axes.set_xlabel('mIoU')
        tidy(axes)
    all_axes[0].set_yticks(range(len(names)), names)
    all_axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png')


def main() -> None:
    """Draw what there is."""
    every = {'ablation': ablation_panels(), 'distillation': distillation_panels()}
    for name, panels in every.items():
        if panels:
            draw(panels, IMAGES / f'{name}.png')
            print(IMAGES / f'{name}.png')


if __name__ == '__main__':
    main()
