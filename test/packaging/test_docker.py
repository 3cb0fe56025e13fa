"""The Dockerfiles are well-formed and name what exists; nobody builds them in the tests."""

from pathlib import Path
import re
import subprocess

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / 'docker').glob('*.Dockerfile'))
INSTRUCTIONS = {
    'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'FROM', 'RUN', 'SHELL', 'VOLUME', 'WORKDIR',
}  # fmt: skip


def instructions(file):
    """Return (instruction, rest) pairs, continuation lines joined and comments left out."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith('#')]
    joined = re.sub(r'\\\n\s*', ' ', '\n'.join(lines))
    pairs = [line.partition(' ') for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def test_both_are_there():
    assert [file.name for file in FILES] == ['jetpack6.Dockerfile', 'x86.Dockerfile']


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_line_is_an_instruction(file):
    found = instructions(file)
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert [name for name, _ in found][:2] == ['ARG', 'FROM']
    declared = {rest.partition('=')[0] for name, rest in found if name == 'ARG'}
    used = set(re.findall(r'\$\{(\w+)\}', ' '.join(rest for _, rest in found)))
    assert used <= declared


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_packages_leave_no_lists_behind(file):
    for name, rest in instructions(file):
        if name == 'RUN' and 'apt-get install' in rest:
            assert rest.count('--no-install-recommends') == rest.count('apt-get install')
            assert rest.endswith('rm -rf /var/lib/apt/lists/*')


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_what_they_call_exists(file):
    text = '\n'.join(rest for _, rest in instructions(file))
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    assert set(re.findall(r'\bmake ([a-z]+)\b(?! python)', text)) <= targets
    script = re.search(r'/offroad_seg/(docker/\S+\.sh)', text)[1]
    assert (ROOT / script).stat().st_mode & 0o111
    assert subprocess.run(['bash', '-n', str(ROOT / script)]).returncode == 0
    launch = re.search(r'"(\w+\.launch\.py)"', text)[1]
    assert (ROOT / 'launch' / launch).is_file()
    assert '$(if $(GPU),gpu)' in (ROOT / 'Makefile').read_text()
    assert (ROOT / 'requirements' / 'gpu.txt').is_file()


def test_the_page_names_what_exists():
    from offroad_seg_core.inference.engines import ENGINES

    page = (ROOT / 'docs' / 'jetson.md').read_text()
    named = set(re.findall(r'^\| `(\w+)` \|', page, re.MULTILINE))
    assert named == ENGINES.keys() - {'openvino', 'onnxruntime'}  # which run on processors
    links = [link for link in re.findall(r'\]\(([^)#]+)\)', page) if '://' not in link]
    assert links
    assert [link for link in links if not (ROOT / 'docs' / link).exists()] == []
