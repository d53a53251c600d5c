"""mypy and pyright agree on what may be written with tasks: they report the marked lines of cases.py, and no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases.py")
ROOT = CASES.parents[2]


def mypy() -> dict[int, str]:
    """What mypy reports, by line."""
    printed = run("mypy", "--config-file=", "--strict", "--cache-dir=.mypy_cache/cases", "--no-error-summary", str(CASES))
    return {int(line): said for line, said in re.findall(r"^[^:\n]*cases\.py:(\d+): error: (.*)$", printed, re.MULTILINE)}


def pyright() -> dict[int, str]:
    """What pyright reports, by line, warnings included."""
    found = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(CASES)))
    return {each["range"]["start"]["line"] + 1: each["message"] for each in found["generalDiagnostics"]}


def run(module: str, *arguments: str) -> str:
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.timeout(300)  # 6 s each, but many times that without mypy's cache on a machine that is busy
@pytest.mark.parametrize("check", [mypy, pyright])
def test_the_marked_lines_are_reported_and_no_others(check: Callable[[], dict[int, str]]) -> None:
    marked = {number for number, line in enumerate(CASES.read_text().splitlines(), 1) if line.endswith("  # error")}
    reported = check()

    assert {number: said for number, said in reported.items() if number not in marked} == {}
    assert marked - reported.keys() == set()
