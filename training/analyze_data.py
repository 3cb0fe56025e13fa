"""Look at a data set before a network learns it: classes, problems, copies, domain gaps.

    python training/analyze_data.py --data config/data/falcon.yaml --output /tmp/falcon [root=...]

Writes index.html, statistics.json and problems.txt, and a domain-gap report where there are two
environments or more, or --against. Files that did not change are not read again next time.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from tqdm import tqdm

from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.datasets.analysis.analyze import analyze, load_splits
from offroad_seg_core.datasets.analysis.report import write_reports
from offroad_seg_core.datasets.analysis.scan import ScanOptions
from offroad_seg_core.datasets.analysis.scan_cache import default_cache_path
from offroad_seg_core.datasets.analysis.summary import describe
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.places import local_path
from offroad_seg_core.taxonomy import load_taxonomy


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', type=Path, required=True, help='a file of config/data')
    add('--output', type=local_path, required=True, help='folder of the report')
    add('--split', nargs='+', default=(), choices=('train', 'validation'), help='default: all')
    add('--taxonomy', help="name or file; default: the data set's own")
    add('--against', type=Path, help='another data set, to be held against this one')
    add('--workers', type=int, default=0, help='threads; default: one for each processor')
    add('--cache', type=Path, default=default_cache_path(), help='default: %(default)s')
    add('--no-cache', action='store_true', help='read every file, and remember nothing')
    add('--strict', action='store_true', help='exit code 1 if there are problems')
    add('overrides', nargs='*', help='key=value of the data set, such as root=/data/falcon')
    return parser.parse_intermixed_args(arguments)


def run(options: argparse.Namespace) -> int:
    config = load_dataset(options.data, options.overrides)
    taxonomy = load_taxonomy(options.taxonomy) if options.taxonomy else config.native_taxonomy()
    if taxonomy is None:
        raise ValueError(f'{options.data}: labels of no taxonomy of its own; give --taxonomy')
    splits, notes = load_splits(config, taxonomy, options.split)
    against = None
    if options.against:
        others, more = load_splits(load_dataset(options.against), taxonomy)
        suffix = ' (against)' * (options.against.stem == options.data.stem)
        against, notes = (options.against.stem + suffix, others), notes + more
    num_frames = sum(map(len, [*splits.values(), *(against[1].values() if against else ())]))
    scan_options = ScanOptions(options.workers, None if options.no_cache else options.cache)
    with tqdm(total=num_frames, unit='frame', dynamic_ncols=True) as bar:
        analysis = analyze(options.data.stem, splits, against, scan_options, bar.update)
    page = write_reports(analysis, options.output, notes)
    print('\n'.join([*notes, describe(analysis), f'\n{page}']))
    return 1 if options.strict and analysis.problems else 0


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    keep_freed_memory()
    try:
        return run(parse_arguments(arguments))
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; what was read is remembered, start again to go on', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
