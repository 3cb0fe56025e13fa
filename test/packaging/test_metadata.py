"""package.xml, setup.py, the changelog and the requirement files tell one story."""

from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()


def test_setup_takes_its_facts_from_the_manifest():
    asked = ['--name', '--version', '--license', '--maintainer', '--maintainer-email']
    printed = subprocess.run(
        [sys.executable, 'setup.py', '-q', *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert printed.stdout.split('\n')[:5] == [
        MANIFEST.findtext('name'),
        MANIFEST.findtext('version'),
        MANIFEST.findtext('license'),
        'offroad_seg developers',
        'offroad-seg@example.org',
    ]


def test_changelog_has_an_entry_for_this_version():
    entries = re.findall(r'^(\d+\.\d+\.\d+)', (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE)
    assert entries[0] == MANIFEST.findtext('version')


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13'])
def test_each_python_gets_one_pin_per_package(python):
    packaging = pytest.importorskip('packaging.requirements')
    for file in (ROOT / 'requirements').glob('*.txt'):
        names = []
        for line in file.read_text().splitlines():
            if not line or line.startswith('#'):
                continue
            requirement = packaging.Requirement(line)
            marker = requirement.marker
            if marker is None or marker.evaluate({'python_version': python}):
                names.append(requirement.name)
        assert len(names) == len(set(names)), f'{file.name}: {names}'


def test_every_data_file_of_the_library_is_packaged():
    setup = (ROOT / 'setup.py').read_text()
    folder = ROOT / 'offroad_seg_core'
    kinds = {
        f'{path.parent.relative_to(folder)}/*{path.suffix}'
        for path in folder.rglob('*')
        if path.is_file() and path.suffix not in ('.py', '.pyc') and path.name != 'py.typed'
    }
    assert kinds
    assert [kind for kind in sorted(kinds) if f"'{kind}'" not in setup] == []
