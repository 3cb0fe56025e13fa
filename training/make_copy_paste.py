"""Paste objects of rare classes into frames where their class stands; write a data set of these.

    python training/make_copy_paste.py --data my_dataset.yaml --taxonomy falcon10 \
        --output data/copy_paste [bank.classes='[Logs, Rocks]' seed=1 ...]

Writes <output>/bank (also for copy-paste while training), <output>/train/{images,labels},
manifest.jsonl, statistics.json and contact_sheet.png. Stopped, it goes on when started again.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
import sys

from tqdm import tqdm

from offroad_seg_core.config import load_config
from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.datasets.copy_paste.bank_building import build_bank
from offroad_seg_core.datasets.copy_paste.paste_set import (
    MANIFEST_FILE,
    SPLIT,
    CopyPasteSetConfig,
    write_copy_paste_set,
)
from offroad_seg_core.datasets.copy_paste.statistics import format_statistics, write_contact_sheet
from offroad_seg_core.places import local_path
from offroad_seg_core.taxonomy import load_taxonomy


def parse_arguments(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='a dataset configuration')
    parser.add_argument('--taxonomy', default='falcon10', help='name or file')
    parser.add_argument('--output', type=local_path, required=True, help='folder to write')
    parser.add_argument('--config', type=Path, help='a file of the options below')
    parser.add_argument('overrides', nargs='*', help='key=value of CopyPasteSetConfig')
    return parser.parse_intermixed_args(arguments)


class Bars:
    """A progress bar for each part of the work, one after another."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move on by one."""
        if done == 1:
            self._bar = tqdm(total=total, desc=what)
        if self._bar is not None:
            self._bar.update(1)
            if done == total:
                self._bar.close()


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    bars = Bars()
    try:
        config = load_config(CopyPasteSetConfig, options.config or {}, options.overrides)
        frames = load_dataset(options.data).frames('train', load_taxonomy(options.taxonomy))
        bank = build_bank(frames, options.output / 'bank', config.bank, bars)
        statistics = write_copy_paste_set(frames, bank, options.output, config, bars)
        manifest, sheet = options.output / MANIFEST_FILE, options.output / 'contact_sheet.png'
        write_contact_sheet(manifest, options.output / SPLIT, sheet)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nstopped; the same command goes on from here', file=sys.stderr)
        return 130
    print(format_statistics(statistics))
    return 0


if __name__ == '__main__':
    sys.exit(main())
