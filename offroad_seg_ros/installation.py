"""Where this package's files are, and what the environment of its processes needs."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import sys

from offroad_seg_core.memory import malloc_variables

PACKAGE = 'offroad_seg_ros'
_MARKER = Path('config') / 'segment.param.yaml'
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
# The user's own choice of transports: a profile of ours would override it.
_USER_TRANSPORT = (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')


def share_folder() -> Path:
    """Return the folder that holds config/, launch/ and models/.

    Run from a source tree it is that tree, whatever older version is installed; otherwise what
    ament installed, or what pip did.

    Raises:
        FileNotFoundError: the package is installed without its files.
    """
    candidates = [
        Path(__file__).resolve().parents[1],
        *_ament_share(),
        Path(sys.prefix) / 'share' / PACKAGE,
    ]
    for folder in candidates:
        if (folder / _MARKER).is_file():
            return folder
    tried = ', '.join(map(str, candidates))
    raise FileNotFoundError(f'{_MARKER} is in none of {tried}; fix: install the package again')


def _ament_share() -> list[Path]:
    try:
        from ament_index_python.packages import get_package_share_directory

        return [Path(get_package_share_directory(PACKAGE))]
    except (ImportError, LookupError, OSError):
        return []  # no ament, AMENT_PREFIX_PATH is not set, or the package is not in its index


def added_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to add so that large images get through, and fast.

    The Fast DDS profile (the variable's name differs between ROS distributions) is left out where
    another middleware runs, or the user has set a profile or transports; each malloc setting where
    the user has set it. The node makes the same malloc settings by itself: as variables they also
    reach RViz, which receives frames of the same size and cannot.

    Args:
        environment: what the user has set; os.environ if not given.
    """
    have = os.environ if environment is None else environment
    added = malloc_variables(have)
    runs_fastdds = 'fastrtps' in (have.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp')
    if runs_fastdds and not any(have.get(name) for name in _USER_TRANSPORT):
        profile = str(share_folder() / 'config' / 'fastdds_shm.xml')
        added |= dict.fromkeys(PROFILE_VARIABLES, profile)
    return added
