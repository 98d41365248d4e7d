"""The recipes of docs/extending.md, each in a folder of its own, as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, studies

PAGE = (ROOT / "docs" / "extending.md").read_text()
RECIPES = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def test_every_room_is_there_and_on_the_map():
    rooms = (ROOT / "CONTRIBUTING.md").read_text().split("## Recipes")[0]
    on_the_map = set(re.findall(r"`srste/(\w+)/`", rooms))
    assert on_the_map == {path.parent.name for path in (ROOT / "srste").glob("*/__init__.py")}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name, tmp_path):
    (tmp_path / "mine").mkdir()
    files = re.findall(r"^`([\w/.]+)`[^`]*?:\n\n```\w+\n(.*?)^```$", RECIPES[name], re.M | re.S)
    assert files
    for path, content in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (commands,) = re.findall(r"^```bash\n(.*?)^```$", RECIPES[name], re.M | re.S)
    for command in commands.splitlines():
        words = shlex.split(command)
        if words[:2] == ["srste", "run"]:
            words[0] = str(Path(sys.executable).with_name("srste"))
        else:
            words[0] = sys.executable
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert studies(tmp_path)
    assert name != "A figure" or (tmp_path / "gains.png").stat().st_size > 5_000
