"""Make a virtual environment and install requirement sets into it.

    python3 requirements/install.py .venv-demo core replay ros
    python3 requirements/install.py .venv core replay ros train fleet dev build --editable

Where a ROS 2 is sourced its rclpy, OpenCV and NumPy are used (the environment sees the system's
packages) and the set `ros` is left out; elsewhere rclpy comes from wheels. Nothing is installed
twice: a stamp in the environment remembers what was asked for. `--editable` also makes this
package itself importable from anywhere in that environment.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
import subprocess
import sys
import time

FOLDER = Path(__file__).resolve().parent
OLDEST_PYTHON, NEWEST_WHEELS = (3, 10), (3, 13)


def sourced_ros() -> str | None:
    """Return the distribution whose rclpy this Python imports, or None."""
    distro = os.environ.get('ROS_DISTRO')
    if not distro:
        return None
    probe = subprocess.run([sys.executable, '-c', 'import rclpy'], capture_output=True)
    if probe.returncode:
        sys.exit(
            f'got ROS_DISTRO={distro}, but {sys.executable} cannot import rclpy; expected a '
            f'sourced ROS 2; fix: `source /opt/ros/{distro}/setup.bash`, or unset ROS_DISTRO '
            'to take rclpy from wheels'
        )
    return distro


def system_version(python: Path, module: str) -> str | None:
    """Return the version of a module that an environment already sees, or None."""
    code = f'import {module}; print({module}.__version__)'
    probe = subprocess.run([python, '-c', code], capture_output=True, text=True)
    return probe.stdout.strip() or None


def pip_arguments(python: Path, sets: list[str], distro: str | None) -> list[str]:
    """Return pip's arguments for the sets, adapted to a sourced ROS."""
    if distro is None:
        return [word for name in sets for word in ('-r', str(FOLDER / f'{name}.txt'))]
    lines = [
        line
        for name in sets
        if name != 'ros'
        for line in (FOLDER / f'{name}.txt').read_text().splitlines()
        if line and not line.startswith('#')
    ]
    # cv_bridge and the message packages of this ROS are built against the system's NumPy.
    numpy = system_version(python, 'numpy') or '2'
    wanted = [line for line in lines if not line.startswith(('numpy', 'opencv'))]
    wanted.append('numpy<2' if numpy.startswith('1.') else 'numpy>=2')
    if system_version(python, 'cv2') is None:
        wanted.append(
            'opencv-python-headless<5' if numpy.startswith('1.') else 'opencv-python-headless'
        )
    return wanted


def stamp_of(arguments: list[str], distro: str | None) -> str:
    """Return what identifies an environment's content."""
    digest = hashlib.sha256(f'{sys.version} {distro} {arguments}'.encode())
    sources = [
        *sorted(FOLDER.glob('*.*')),
        FOLDER.parent / 'setup.py',
        FOLDER.parent / 'package.xml',
    ]
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_environment(folder: Path, distro: str | None) -> Path:
    """Create the environment and return its Python."""
    command = [sys.executable, '-m', 'venv', '--clear', str(folder)]
    if distro:
        command.append('--system-site-packages')
    if subprocess.run(command).returncode:
        version = f'{sys.version_info.major}.{sys.version_info.minor}'
        sys.exit(
            f'could not make a virtual environment with {sys.executable}; '
            f'fix: sudo apt install python{version}-venv'
        )
    return folder / 'bin' / 'python'


def check_python(distro: str | None) -> None:
    """End with the fix where this Python is too old, or too new for the ROS wheels."""
    version = sys.version_info[:2]
    if version < OLDEST_PYTHON or (distro is None and version > NEWEST_WHEELS):
        sys.exit(
            f'got Python {sys.version.split()[0]}, expected 3.10 to 3.13 (newer only with a '
            'sourced ROS 2 of its own); fix: make demo PYTHON=python3.12'
        )


def main() -> None:
    """Install, unless the stamp says that it is done."""
    folder, sets = Path(sys.argv[1]), sys.argv[2:]
    editable = '--editable' in sets
    sets = [name for name in sets if name != '--editable']
    distro = sourced_ros()
    check_python(distro)
    stamp, stamp_file = stamp_of(sys.argv[2:], distro), folder / '.installed'
    if stamp_file.is_file() and stamp_file.read_text() == stamp:
        return
    source = f'the sourced ROS 2 {distro}' if distro else 'ROS 2 wheels where needed'
    print(f'[install] {folder}: {", ".join(sets)} ({source}); about a minute …', flush=True)
    started = time.monotonic()
    python = make_environment(folder, distro)
    arguments = pip_arguments(python, sets, distro)
    pip = [str(python), '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet']
    if subprocess.run(pip + arguments).returncode:
        sys.exit(f'pip could not install {sets}; its message stands above')
    if editable:
        subprocess.run(
            [*pip, '--no-deps', '--no-build-isolation', '-e', str(FOLDER.parent)], check=True
        )
    stamp_file.write_text(stamp)
    print(f'[install] done in {time.monotonic() - started:.0f} s', flush=True)


if __name__ == '__main__':
    main()
