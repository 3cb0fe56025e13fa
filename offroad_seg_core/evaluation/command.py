"""What every command that evaluates does the same way: engines, progress, words at the end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import errno
import logging
from pathlib import Path
import signal
import sys
from typing import Any, Literal

from tqdm import tqdm

from offroad_seg_core.bags.unpacking import keeping_unpacked, remove_unread
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.parts import in_work, read_identity
from offroad_seg_core.evaluation.summary import read_summary
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.pipeline import Passes
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.inference.sliding_window import parse_sliding_window
from offroad_seg_core.inference.tta import TTA_VIEWS

log = logging.getLogger(__name__)

_QUIET_PERIOD_S = 5.0


def add_pass_options(parser: argparse.ArgumentParser) -> None:
    """Add how often the network sees each frame."""
    add = parser.add_argument
    add('--tta', choices=tuple(TTA_VIEWS), default='off', help='views of each frame')
    window = 'cut each view, such as "{window: [896, 896], stride: [384, 384]}"; "{}" for defaults'
    add('--sliding-window', default='', metavar='YAML', help=window)


def chosen_passes(options: argparse.Namespace) -> Passes:
    """Return what was chosen by add_pass_options; ConfigError for a window that is none."""
    return Passes(options.tta, parse_sliding_window(options.sliding_window))


def recorded_engine(
    output: Path, engine: str, precision: str, who: Literal['model', 'reference'] = 'model'
) -> tuple[str, str]:
    """Return engine and precision; where 'auto' was asked for, those of an unfinished result.

    Another engine, chosen because it is faster today, would not give the same labels.
    """
    known = ((read_identity(output) or {}).get(who) or {}).get('engine')
    if not isinstance(known, dict):
        return engine, precision
    return (
        known['name'] if engine == 'auto' else engine,
        known['precision'] if precision == 'auto' else precision,
    )


def open_reference(
    bundle: str | Path,
    output: Path,
    engine: str,
    precision: str,
    default: tuple[str, str] = ('auto', 'auto'),
) -> Segmenter:
    """Return the segmenter of a reference; it chooses its engine if it cannot take this one.

    Args:
        bundle: Of the reference.
        output: See recorded_engine, as engine and precision.
        engine: Asked for.
        precision: Asked for.
        default: Engine and precision where none was asked for and none recorded.

    Raises:
        BundleError, EngineError: It cannot be opened.
    """
    own = recorded_engine(output, 'auto', 'auto', 'reference')
    engine, precision = recorded_engine(output, engine, precision, 'reference')
    engine = default[0] if engine == 'auto' else engine
    precision = default[1] if precision == 'auto' else precision
    try:
        return Segmenter.open(bundle, engine, precision)
    except EngineError as error:
        if (engine, precision) == own:
            raise
        log.warning('--reference: %s; its engine is chosen as by auto', error)
        return Segmenter.open(bundle, *own)


def run_with_progress(evaluation: Evaluation, given: argparse.Namespace) -> Path:
    """Evaluate with a bar that tells the remaining time; return the folder of the result.

    Args:
        evaluation: What to do.
        given: See add_output_options.

    Raises:
        OutputError: Another process evaluates to the same place.
    """
    with in_work(evaluation.output):
        if given.ray is not None:
            return _on_cluster(evaluation, given)
        total = evaluation.source.num_frames or None
        with _bar('frame', total) as bar:
            return evaluate(evaluation, bar.update, given.restart)


def _on_cluster(evaluation: Evaluation, given: argparse.Namespace) -> Path:
    is_folder = given.chunks and '://' not in given.chunks
    if is_folder and Path(given.chunks).resolve().is_relative_to(given.output.resolve()):
        got, fix = f'--chunks: got {given.chunks} in {given.output}', 'name another place'
        raise ValueError(f'{got}, expected a folder that no result replaces; fix: {fix}')
    from offroad_seg_core.fleet.cluster import Crew, ray_cluster  # needs ray
    from offroad_seg_core.fleet.run import Fleet

    remove_unread()  # the workers read the drives, and some of them perhaps on this machine
    with _bar('chunk') as bar:

        def show(num_done: int, total: int, num_frames: int) -> None:
            bar.total = total
            bar.set_postfix(frames=num_frames, refresh=False)
            bar.update(num_done - bar.n)

        with ray_cluster(given.ray):
            fleet = Fleet(evaluation, show, given.chunks, given.restart)
            return fleet.evaluate(Crew(evaluation).perform)


def _bar(unit: str, total: int | None = None) -> tqdm:
    interval_s = 0.1 if sys.stderr.isatty() else _QUIET_PERIOD_S
    return tqdm(total=total, unit=unit, dynamic_ncols=True, mininterval=interval_s)


def tell(folder: Path) -> int:
    """Print the main figures of a result and where its report is.

    Returns:
        The exit code of a command: 1 if an input was left out.
    """
    print(f'{describe(folder)}\n\n{folder / "report" / "index.html"}')
    return 1 if read_summary(folder)['source'].get('left_out') else 0


def describe(folder: Path) -> str:
    """Return the main figures of a result for a terminal."""
    said = read_summary(folder)
    labelled, total = said['num_labelled'], said['num_frames']
    truth = 'labels of the reference' if said['reference'] else 'truth'
    lines = [
        f'{labelled} of {total} frames labelled by {said["model"]["model"]}',
        f'{said["num_with_truth"]} of {total} frames with {truth}',
    ]
    if said['scores']:
        scores = said['scores']['together']['scores']
        rules = said['scores']['mean_rules']
        against = 'agreement with the reference, ' if said['reference'] else ''
        lines += [
            f'{against}mIoU {_number(scores[key])} {rules[rule]}'
            for key, rule in (('miou_present', 'present'), ('miou_all_absent_0', 'all_absent_0'))
        ]
        lines.append(f'false safe rate {_number(scores["false_safe_rate"])}')
    for name, timing in said['timings_ms'].items():
        lines.append(f'{name[:-3]}: {timing["p50"]:.1f} ms, 95 % below {timing["p95"]:.1f} ms')
    lines += [f'{p["count"]} frames: {p["problem"]}' for p in said['problems'][:5]]
    lines += [f'note: {note}' for note in said['notes']]
    return '\n'.join(lines)


def guarded(name: str, output: Callable[[], Path], command: Callable[[], int]) -> int:
    """Run a command; turn what stops it into words and an exit code.

    Returns:
        The command's code; 1 for bad input, a failed engine or a full disk; 2 for a library that
        is missing; 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    kept = 'what is complete is kept'
    try:
        with keeping_unpacked():
            return command()
    except KeyboardInterrupt:
        again = f'in {output()}.unfinished; the same command goes on'
        print(f'{name}: stopped; {kept} {again}', file=sys.stderr)
        return 130
    except OSError as error:
        fix = ''
        if error.errno == errno.ENOSPC:
            fix = f'; {kept}; free some space and repeat the command, or --output elsewhere'
        print(f'{name}: {error}{fix}', file=sys.stderr)
    except (ValueError, EngineError) as error:
        print(f'{name}: {error}', file=sys.stderr)
    except ImportError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 2
    return 1


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _number(value: float | None) -> str:
    return 'undefined' if value is None else f'{value:.4f}'
