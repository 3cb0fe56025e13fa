"""What nodes get to see of the environment, against hand-written answers."""

from pathlib import Path

import pytest

from offroad_seg_ros.installation import added_environment

ROOT = Path(__file__).parents[2]
PROFILE = str(ROOT / 'config' / 'fastdds_shm.xml')
MALLOC = {
    'MALLOC_MMAP_MAX_': '0',
    'MALLOC_TRIM_THRESHOLD_': '2147483647',
    'MALLOC_TOP_PAD_': '67108864',
    'MALLOC_ARENA_MAX': '1',
}


def test_environment_gets_the_profile_under_both_names():
    assert added_environment({}) == {
        **MALLOC,
        'FASTRTPS_DEFAULT_PROFILES_FILE': PROFILE,
        'FASTDDS_DEFAULT_PROFILES_FILE': PROFILE,
    }


@pytest.mark.parametrize(
    'name',
    [
        'FASTRTPS_DEFAULT_PROFILES_FILE',
        'FASTDDS_DEFAULT_PROFILES_FILE',
        'FASTDDS_BUILTIN_TRANSPORTS',
    ],
)
def test_the_users_transports_are_kept(name):
    assert added_environment({name: 'mine'}) == MALLOC


def test_other_middleware_gets_no_fastdds_profile():
    assert added_environment({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}) == MALLOC
    assert PROFILE in added_environment({'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}).values()


def test_the_users_malloc_settings_are_kept():
    for name in MALLOC:
        assert name not in added_environment({name: '1'})
    assert 'MALLOC_MMAP_MAX_' not in added_environment({'MALLOC_MMAP_THRESHOLD_': '1'})
