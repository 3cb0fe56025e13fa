"""Hold labels that were made offline against those of the live node.

    ros2 run offroad_seg_ros evaluate_bag drive --output offline
    ros2 run offroad_seg_ros compare_labels offline recorded_outputs

Ends with 0 where every frame that both have is identical, 1 where one differs, 2 for bad input or
a camera of both that has no frame in both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from offroad_seg_core.evaluation.label_comparison import compare_labels


def main(arguments: list[str] | None = None) -> int:
    """Compare; return 0 for identical labels, 1 for different ones, 2 where there is nothing."""
    parser = argparse.ArgumentParser(
        prog='compare_labels',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ('first', 'second'):
        parser.add_argument(name, type=Path, help='result of an evaluation, bag, or label folder')
    given = parser.parse_args(arguments)
    try:
        found = compare_labels(given.first, given.second)
    except (ValueError, OSError) as error:
        print(f'compare_labels: {error}', file=sys.stderr)
        return 2
    print(found.text())
    if not found.num_identical and not found.different:
        print('compare_labels: no frame is in both; are they of one drive?', file=sys.stderr)
        return 2
    if found.different:
        return 1
    return 2 if found.apart else 0


if __name__ == '__main__':
    sys.exit(main())
