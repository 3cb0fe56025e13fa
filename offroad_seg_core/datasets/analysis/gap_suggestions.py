"""What could be tried against a domain gap, with what this package has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offroad_seg_core.datasets.analysis.gap_findings import Finding, enumerate_words

CAUTION = (
    'None of these was measured on your frames. Hold out a whole group, train with and without '
    'one change, several seeds each, and keep what helps there. Colour methods move colours only: '
    'other rocks, other plants and other shapes stay unknown to the model.'
)
"""To be shown above every list of suggestions."""


@dataclass(frozen=True)
class Suggestion:
    """One remedy.

    Attributes:
        reason: The findings it answers, in short.
        action: What to try.
        doubt: When it does harm or nothing.
    """

    reason: str
    action: str
    doubt: str


def suggest(findings: Sequence[Finding]) -> list[Suggestion]:
    """Return the remedies that fit the findings, in the order of the findings' importance."""
    order = sorted(findings, key=lambda finding: -finding.importance)
    builders = {
        'absent': _absent,
        'new': _new,
        'rare': _rare,
        'share': _rare,
        'color': _color,
        'look': _look,
    }
    used = dict.fromkeys(builders[entry.kind] for entry in order if entry.kind in builders)
    kinds = {builder: {k for k, b in builders.items() if b is builder} for builder in used}
    return [build([entry for entry in order if entry.kind in kinds[build]]) for build in used]


def _absent(findings: list[Finding]) -> Suggestion:
    lists = [f'{entry.group}: {", ".join(entry.classes)}' for entry in findings]
    return Suggestion(
        f'Classes that a group has not ({"; ".join(lists)})',
        'Name them in the parameter absent_classes where the robot drives in that group: the '
        'network then never outputs them, and their pixels go to the next best class.',
        'Only if you know the place. These frames show what was recorded, not what is there; a '
        'class left out by mistake is never seen again, an obstacle among them neither. And the '
        'next best class may be wrong too.',
    )


def _new(findings: list[Finding]) -> Suggestion:
    classes = enumerate_words(list(dict.fromkeys(sum((f.classes for f in findings), ()))))
    return Suggestion(
        f'Classes that only one group has ({classes})',
        'Train with that group, or with another dataset that has the class (kind: mixed), when '
        'the robot meets it elsewhere. Copy-paste carries instances from there to the others.',
        'Without any labelled instance no sampling, weight or augmentation teaches a class.',
    )


def _rare(findings: list[Finding]) -> Suggestion:
    classes = enumerate_words(list(dict.fromkeys(sum((f.classes for f in findings), ()))))
    return Suggestion(
        f'Other class shares ({classes})',
        'Where a class is rare in the training frames: rare-class or repeat-factor sampling, '
        'copy-paste of its instances, class weights. Report IoU per class and group.',
        'All of them favour the rare classes everywhere: false alarms grow where the class stays '
        'rare, and a class of a handful of pixels has no meaningful IoU.',
    )


def _color(findings: list[Finding]) -> Suggestion:
    groups = enumerate_words(list(dict.fromkeys(entry.group for entry in findings)))
    return Suggestion(
        f'Other light and colours ({groups})',
        'FourierAdaptation, ReinhardTransfer or HistogramTransfer towards a folder of unlabelled '
        'frames of the group where the robot will drive; without such frames the strong '
        'photometric preset.',
        'Extreme colour changes can resemble neither group and cost accuracy. Dark frames have '
        'noise and lost shadows that no recolouring of bright ones shows.',
    )


def _look(findings: list[Finding]) -> Suggestion:
    groups = enumerate_words(list(dict.fromkeys(entry.group for entry in findings)))
    return Suggestion(
        f'Pictures that look different ({groups})',
        'Validate on whole groups that training never saw, one after the other, and report each: '
        'a random split of the frames would hide the gap. Frames of more places are worth more '
        'than more frames of one.',
        'The distance knows colours and coarse edges. It does not say how much accuracy is lost.',
    )
