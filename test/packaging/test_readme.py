"""The README's figures and parameters are those of the results and of the code."""

from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / 'README.md'


def test_tables_are_the_results():
    pytest.importorskip('rclpy', reason='the parameter table needs rclpy')
    done = subprocess.run(
        [sys.executable, 'benchmarks/tables.py', '--check'],
        cwd=ROOT, capture_output=True, text=True, env={'PYTHONPATH': str(ROOT), 'HOME': '/tmp'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_linked_file_exists():
    links = re.findall(r'\]\(([^)#]+)\)', README.read_text())
    files = [link for link in links if '://' not in link]
    assert files
    assert [link for link in files if not (ROOT / link).exists()] == []


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    named = set(re.findall(r'make ([a-z-]+)', README.read_text()))
    assert {'demo', 'test'} <= named <= targets
