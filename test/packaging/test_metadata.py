"""package.xml, setup.py, the changelog and the requirement files tell one story."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
PYTHONS = ('3.10', '3.11', '3.12', '3.13')


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


def _requirements(file):
    packaging = pytest.importorskip('packaging.requirements')
    lines = file.read_text().splitlines()
    return [packaging.Requirement(line) for line in lines if line and not line.startswith('#')]


def _applies(requirement, python):
    return not requirement.marker or requirement.marker.evaluate({'python_version': python})


@pytest.mark.parametrize('python', PYTHONS)
def test_each_python_gets_one_pin_per_package(python):
    for file in (ROOT / 'requirements').glob('*.txt'):
        names = [entry.name for entry in _requirements(file) if _applies(entry, python)]
        assert len(names) == len(set(names)), f'{file.name}: {names}'


def test_each_pin_supports_every_python_of_its_marker():
    """By the metadata of the pins that are installed here."""
    specifiers = pytest.importorskip('packaging.specifiers')
    checked, refused = [], []
    for file in (ROOT / 'requirements').glob('*.txt'):
        for requirement in _requirements(file):
            try:
                installed = distribution(requirement.name)
            except PackageNotFoundError:
                continue
            if str(requirement.specifier) != f'=={installed.version}':
                continue
            checked.append(requirement.name)
            needed = specifiers.SpecifierSet(installed.metadata['Requires-Python'] or '')
            for python in PYTHONS:
                if _applies(requirement, python) and not needed.contains(f'{python}.99'):
                    refused.append(f'{file.name}: {requirement} on Python {python}')
    assert 'pytest' in checked
    assert refused == []


_IMPORTED = """
import ast, sys
from importlib import import_module, metadata
from pathlib import Path
import_module(sys.argv[1])
names = set()
for name, module in list(sys.modules.items()):
    if name.startswith(('offroad_seg_core', 'offroad_seg_ros')):
        for node in ast.parse(Path(module.__file__).read_text()).body:
            if isinstance(node, ast.ImportFrom):
                names.add(node.module.split('.')[0])
            elif isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
owners = metadata.packages_distributions()
print(*{owners[name][0] for name in names if name in owners})
"""


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason='Python 3.10 does not know whose modules are whose'
)
@pytest.mark.parametrize('script', ['evaluate_bag', 'compare_labels', 'check_engine'])
def test_what_a_script_imports_is_required(script):
    """Of those scripts that need no ROS, whose packages are the manifest's."""
    printed = subprocess.run(
        [sys.executable, '-c', _IMPORTED, f'offroad_seg_ros.{script}'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    required, needed = (
        {name.lower().replace('_', '-') for name in names}
        for names in (
            re.findall(r"'([\w-]+)", (ROOT / 'setup.py').read_text()),
            printed.stdout.split(),
        )
    )
    assert 'numpy' in needed
    assert sorted(needed - required) == []


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
