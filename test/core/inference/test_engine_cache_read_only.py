"""A cache folder that cannot be written."""

from pathlib import Path
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_engine_cache import FINGERPRINT, Builder

from offroad_seg_core.inference.engines.base import EngineError
from offroad_seg_core.inference.engines.engine_cache import EngineCache

READ_ONLY = """
import os, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_engine_cache import ENGINE, FINGERPRINT, Builder
from offroad_seg_core.inference.engines.base import EngineError
from offroad_seg_core.inference.engines.engine_cache import EngineCache

if os.geteuid() == 0:  # root may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
cache, builder = EngineCache(Path(sys.argv[1])), Builder()
assert cache.get_or_build(FINGERPRINT, builder) == ENGINE
for attempt in (
    lambda: cache.get_or_build(replace(FINGERPRINT, precision='fp32'), builder),
    lambda: cache.get_or_build(replace(FINGERPRINT, version='11.4'), builder),
    lambda: cache.discard(FINGERPRINT),
):
    try:
        attempt()
    except EngineError as error:
        print(error)
assert builder.num_builds == 0
"""


def test_a_read_only_folder_serves_what_it_has():
    with tempfile.TemporaryDirectory() as name:  # no user may look into pytest's
        folder = Path(name)
        cache = EngineCache(folder)
        cache.get_or_build(FINGERPRINT, Builder())
        paths = [folder, *folder.rglob('*')]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, '-c', READ_ONLY, name, str(Path(__file__).parent)],
            capture_output=True, text=True,
        )  # fmt: skip
        for path in paths:
            path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert line.startswith('engine cache')
        assert 'Permission denied' in line
        assert 'fix: set the parameter engine_cache or XDG_CACHE_HOME' in line


def test_a_file_in_the_folder_s_place_is_told(tmp_path):
    (tmp_path / 'engines').touch()
    with pytest.raises(EngineError, match='expected a folder that can be written'):
        EngineCache(tmp_path).get_or_build(FINGERPRINT, Builder())
