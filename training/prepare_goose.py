"""Download GOOSE and GOOSE-Ex and extract them to one tree.

    python training/prepare_goose.py --config config/data/goose_download.yaml [key=value ...]

Run it again after an interruption: it goes on where it ended. See docs/goose.md.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from offroad_seg_core.config import load_config
from offroad_seg_core.datasets.acquisition.goose_config import GooseDownloadConfig
from offroad_seg_core.datasets.acquisition.goose_download import prepare
from offroad_seg_core.datasets.acquisition.manifest import verify


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, required=True, help='a file of config/data')
    parser.add_argument('--only', nargs='+', metavar='ARCHIVE', help='these archives only')
    archives = parser.add_mutually_exclusive_group()
    archives.add_argument(
        '--keep-archives', action='store_true', default=None, help='after they are extracted'
    )
    archives.add_argument('--delete-archives', dest='keep_archives', action='store_false')
    parser.add_argument(
        '--verify',
        nargs='?',
        const='sizes',
        choices=['sizes', 'content'],
        help='compare the tree with its manifest; content: read every file',
    )
    parser.add_argument('overrides', nargs='*', help='key=value, applied in order')
    return parser.parse_intermixed_args(arguments)


def report(problems: list[str], shown: int = 20) -> int:
    for problem in problems[:shown]:
        print(problem, file=sys.stderr)
    if len(problems) > shown:
        print(f'… and {len(problems) - shown} more', file=sys.stderr)
    print(f'{len(problems)} problems' if problems else 'everything is as it was extracted')
    return 1 if problems else 0


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    options = parse_arguments(arguments)
    overrides = list(options.overrides)
    if options.keep_archives is not None:
        overrides.append(f'keep_archives={str(options.keep_archives).lower()}')
    try:
        config = load_config(GooseDownloadConfig, options.config, overrides)
        if options.only:
            config = config.only(options.only)
        if options.verify:
            return report(verify(config.root, read_content=options.verify == 'content'))
        manifest = prepare(config)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; run the same command again to go on', file=sys.stderr)
        return 130
    for split, cameras in manifest['images'].items():
        counts = ', '.join(f'{camera} {count}' for camera, count in cameras.items())
        print(f'{split:6} {len(manifest["scenarios"][split])} scenarios; images: {counts}')
    print(f'{config.root}: {manifest["num_files"]} files, {manifest["license"]}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
