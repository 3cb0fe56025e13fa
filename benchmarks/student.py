"""Scores of the trained students, computed again from the committed confusion matrices.

    python benchmarks/student.py [--quick] [--json PATH]

benchmarks/results/runs/*.json are the `result.json` files that training/train.py wrote: config
and its hash, seed, command, wall time and one confusion matrix per environment. Nothing is
trained here. `miou` averages over the classes in truth or prediction, `miou_present` over the
classes in the truth.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from report import ROOT, arguments, finish

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import segmentation_scores
from offroad_seg_core.taxonomy import load_taxonomy

RUNS = ROOT / 'benchmarks' / 'results' / 'runs'


def rows_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each environment that a run was validated on."""
    taxonomy = load_taxonomy(run['config']['taxonomy'])
    rows = []
    for environment, record in run['environments'].items():
        matrix = ConfusionMatrix(taxonomy.num_classes)
        matrix.counts[:] = np.array(record['confusion_matrix'])
        scores = segmentation_scores(matrix, taxonomy)
        rows.append(
            {
                'run': run['config']['name'],
                'validated_on': environment,
                'steps': run['step'],
                'minutes': round(run['elapsed_s'] / 60, 1),
                'miou': scores.miou,
                'miou_present': scores.miou_present,
                'false_safe': scores.false_safe_rate,
                **{
                    name: None if np.isnan(iou) else float(iou)
                    for name, iou in zip(taxonomy.names, matrix.iou(), strict=True)
                },
            }
        )
    return rows


def main() -> None:
    """Print and write the table."""
    options = arguments(__doc__)
    runs = [json.loads(file.read_text()) for file in sorted(RUNS.glob('*.json'))]
    rows = [row for run in runs for row in rows_of(run)]
    ratios = {f'{row["run"]}_miou_present': row['miou_present'] for row in rows}
    finish('student', options, rows, ratios)


if __name__ == '__main__':
    main()
