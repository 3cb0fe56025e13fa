"""What tests of the TensorRT engine share."""

import pytest


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a simulated GPU with TensorRT on it; for modules that can import both."""
    from simulated_machine import Machine

    return Machine(monkeypatch, tmp_path)
