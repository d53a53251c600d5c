"""The interpreters of the contestants: each group of peers has its own virtual environment in .bench/, made when first needed.

One is made again when its file in requirements/ or its interpreter has changed; nothing is ever installed into our own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_MADE = _ROOT / ".bench"
_REQUIREMENTS = Path(__file__).parent / "requirements"
_LEAST = {"peers": (3, 10), "oban": (3, 12)}  # the oldest Python on which its packages run


class Unavailable(Exception):
    """A contestant cannot take part on this machine; the text is the reason, which stands below the table."""


def python(name: str) -> Path:
    """The interpreter of an environment, with its packages.

    Args:
        name: `own` for the one that runs the benchmarks, else `peers` or `oban`.

    Raises:
        Unavailable: there is no Python that is new enough, or its packages cannot be installed.
    """
    if name == "own":
        return Path(sys.executable)
    requirements = _REQUIREMENTS / f"{name}.txt"
    base = _interpreter(_LEAST[name])
    made, mark = _MADE / name, _mark(base, requirements)
    marker = made / "made-from"
    if not marker.exists() or marker.read_text() != mark:
        _make(made, base, requirements)
        marker.write_text(mark)
    return made / "bin" / "python"


def _interpreter(least: tuple[int, int]) -> Path:
    if sys.version_info[:2] >= least:
        return Path(sys.executable)
    for found in _candidates():
        if _version(found) >= least:
            return found
    wanted = f"Python {least[0]}.{least[1]}"
    raise Unavailable(f"it needs {wanted} or newer, which is neither on the PATH nor under ~/.pyenv/versions")


def _candidates() -> Iterator[Path]:
    for minor in ("3.14", "3.13", "3.12"):
        if on_path := shutil.which(f"python{minor}"):
            yield Path(on_path)
        yield from sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"), reverse=True)


def _version(interpreter: Path) -> tuple[int, ...]:
    """(0,) of one that does not run, as pyenv's shims of versions that are not chosen."""
    asked = [str(interpreter), "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else (0,)


def _mark(base: Path, requirements: Path) -> str:
    return f"{base}\n{hashlib.sha256(requirements.read_bytes()).hexdigest()}\n"


def _make(directory: Path, base: Path, requirements: Path) -> None:
    print(f"making {directory.relative_to(_ROOT)} from {requirements.relative_to(_ROOT)} ...", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    _run(str(base), "-m", "venv", str(directory))
    pip = (str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(*pip, "install", "--requirement", str(requirements))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}` has failed: {done.stderr.strip()[-600:]}")
