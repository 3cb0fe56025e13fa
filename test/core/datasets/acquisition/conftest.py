from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


def load(name):
    spec = spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server():
    """A real HTTP server on localhost; see file_server.py for what can be wrong with it."""
    with load('file_server').serve() as running:
        yield running


@pytest.fixture(scope='session')
def goose():
    """The module of a tiny GOOSE."""
    return load('goose_archives')
