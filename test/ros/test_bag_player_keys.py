"""The space bar pauses a player, where the terminal is its own."""

import os
import sys
import termios
import threading

import pytest

from offroad_seg_ros import bag_player


@pytest.mark.parametrize('in_background', [False, True])
def test_a_job_in_the_background_leaves_the_terminal_alone(monkeypatch, in_background):
    keyboard, terminal = os.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, 'stdin', stdin)
        group = os.getpgrp() + in_background
        monkeypatch.setattr(os, 'tcgetpgrp', lambda _: group)
        before, hit = termios.tcgetattr(stdin), threading.Event()
        with bag_player._on_space(hit.set):
            assert (termios.tcgetattr(stdin) == before) == in_background
            os.write(keyboard, b' ')
            assert hit.wait(0.3 if in_background else 10) != in_background
        assert termios.tcgetattr(stdin) == before
    os.close(keyboard)
