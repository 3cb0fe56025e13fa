"""What is known about a site before the camera looks: classes that do not occur there."""

from __future__ import annotations

from collections.abc import Iterable

from offroad_seg_core.taxonomy import Taxonomy


def allowed_classes(taxonomy: Taxonomy, absent: Iterable[str]) -> tuple[int, ...]:
    """Return the ids that may be output when the named classes are declared absent.

    Leaving a class out equals giving its logit the prior −∞ (p_t(c) = 0). Absence is declared by
    the person who knows the site, never inferred from labels of the frames that are measured.

    Raises:
        ValueError: a name is not in the taxonomy, or no class would be left.
    """
    absent = set(absent)
    unknown = sorted(absent - set(taxonomy.names))
    if unknown:
        raise ValueError(
            f'got absent classes {unknown}, expected names of the taxonomy {taxonomy.name}: '
            f'{list(taxonomy.names)}'
        )
    allowed = tuple(index for index, name in enumerate(taxonomy.names) if name not in absent)
    if not allowed:
        raise ValueError(f'all classes of {taxonomy.name} are declared absent; fix: leave one')
    return allowed
