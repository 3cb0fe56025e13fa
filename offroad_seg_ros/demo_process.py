"""The node as a process of its own, with its log in a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
from types import TracebackType

from offroad_seg_ros.launch_plan import NODE, LaunchPlan

_STOP_TIMEOUT_S = 15.0
_TAIL_LINES = 15
FIRST_DOMAIN, NUM_DOMAINS = 20, 80
"""Domains up to 101 are free of the ports that systems hand out."""


class DemoError(RuntimeError):
    """The demo cannot go on."""


def isolated_environment(environment: Mapping[str, str], pid: int) -> dict[str, str]:
    """Return variables that keep the demo off a running robot: another domain, this host only.

    Args:
        environment: what the user has set.
        pid: of this process; parallel demos differ in it.
    """
    domain = FIRST_DOMAIN + pid % NUM_DOMAINS
    if environment.get('ROS_DOMAIN_ID') == str(domain):
        domain = FIRST_DOMAIN + (pid + 1) % NUM_DOMAINS
    added = {'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    if environment.get('ROS_DISTRO') == 'humble':
        added['ROS_LOCALHOST_ONLY'] = '1'  # the later variable is unknown there
    return added


class NodeProcess:
    """A running segmentation node. As a context manager it never outlives its block.

    Args:
        plan: what to start.
        log: file that gets everything the node says.
        on_line: called with each line of it, from another thread.
    """

    def __init__(
        self, plan: LaunchPlan, log: Path, on_line: Callable[[str], object] | None = None
    ) -> None:
        command = [sys.executable, '-m', f'offroad_seg_ros.{NODE}', *plan.node_arguments()]
        root = str(Path(__file__).resolve().parents[1])
        search_path = filter(None, [root, os.environ.get('PYTHONPATH')])
        environment = {
            **os.environ,
            **plan.environment,
            'PYTHONPATH': os.pathsep.join(search_path),
            'PYTHONUNBUFFERED': '1',
        }
        self.log, self._on_line = log, on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        # In a session of its own: Ctrl-C reaches the demo alone, which stops the node in order.
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._tee, daemon=True)
        self._reader.start()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def check(self) -> None:
        """Raise DemoError with the end of the log if the node is gone."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f'the node ended with code {code}; the end of its log:\n{self.tail()}')

    def stop(self) -> None:
        """End the node as Ctrl-C does; DemoError unless it ends with 0."""
        self.check()
        code = self._end()
        if code:
            raise DemoError(f'the node ended with code {code}; the end of its log:\n{self.tail()}')

    def tail(self) -> str:
        """Return the last lines of the log."""
        return '\n'.join(f'  {line}' for line in self._tail)

    def _end(self) -> int:
        for number in (signal.SIGINT, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(_STOP_TIMEOUT_S)
        return self._process.returncode

    def _tee(self) -> None:
        with self.log.open('w', encoding='utf-8') as stream:
            for line in self._process.stdout:
                stream.write(line)
                stream.flush()
                self._tail.append(line.rstrip())
                if self._on_line:
                    self._on_line(line.rstrip())
