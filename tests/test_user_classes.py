"""Whatever a user's class does wrong is told in one line, with its name, before any work."""

from __future__ import annotations

import sys

import pytest

from srste.errors import UserError
from tests.support import CONF, checked_plan

MODULES = {
    "__init__": "",
    "broken": "import nonexistent_thing",
    "misspelt": "from torch import nothing_of_that_name",
    "syntax": "def f(:",
    "script": "raise SystemExit('bye')",
    "est": """
class Keyed:
    stochastic = False
    def __init__(self): raise KeyError("weights")
class Divided(Keyed):
    def __init__(self): 1 / 0
class Told(Keyed):
    def __init__(self): raise ValueError("several\\nlines")
class Silent(Keyed):
    def __init__(self): raise Exception
class Asked(Keyed):
    def __init__(self, weights): pass
class Left(Keyed):
    def __init__(self): raise SystemExit(3)
class Running:
    stochastic = False
    def direction(self, problem, batch, samples): raise KeyError("weights")
class Asserting(Running):
    def direction(self, problem, batch, samples): assert False
class Nothing(Running):
    def direction(self, problem, batch, samples): return None
class NoFlag:
    def direction(self, problem, batch, samples): return {}
""",
}


@pytest.fixture(scope="module")
def _package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "mypkg").mkdir()
    for name, text in MODULES.items():
        (folder / "mypkg" / f"{name}.py").write_text(text)
    (folder / "conf" / "estimator").mkdir(parents=True)
    (folder / "conf" / "estimator" / "mine.yaml").write_text("name: mine\n_target_: ???\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nopkg.est.X", "estimator._target_=nopkg.est.X: ModuleNotFoundError: No module named 'nopkg'"),
        (
            "mypkg.nope.X",
            "estimator._target_=mypkg.nope.X: ModuleNotFoundError: No module named 'mypkg.nope'",
        ),
        ("mypkg.est.Nope", "estimator._target_=mypkg.est.Nope: ModuleNotFoundError: No module named"),
        ("mypkg.broken.X", "ModuleNotFoundError: No module named 'nonexistent_thing'"),
        ("mypkg.misspelt.X", "ImportError: cannot import name 'nothing_of_that_name' from 'torch'"),
        ("mypkg.syntax.X", "SyntaxError: invalid syntax (syntax.py, line 1)"),
        ("mypkg.script.X", "mypkg.script.X: SystemExit: bye"),
        ("mypkg.est.Keyed", "estimator: mypkg.est.Keyed: KeyError: 'weights'"),
        ("mypkg.est.Divided", "estimator: mypkg.est.Divided: ZeroDivisionError: division by zero"),
        ("mypkg.est.Told", "estimator: mypkg.est.Told: ValueError: several lines"),
        ("mypkg.est.Silent", "estimator: mypkg.est.Silent: Exception"),
        ("mypkg.est.Asked", "Asked.__init__() missing 1 required positional argument: 'weights'"),
        ("mypkg.est.Left", "estimator: mypkg.est.Left: SystemExit: 3"),
        ("mypkg.est.Running", "does not run: 'weights' (KeyError in mypkg.est.Running)"),
        ("mypkg.est.Asserting", "does not run: AssertionError (AssertionError in mypkg.est.Asserting)"),
        ("mypkg.est.Nothing", "of what mypkg.est.Nothing gives"),
        ("mypkg.est.NoFlag", "has no attribute 'stochastic'"),
        ("os.remove", "estimator: Target 'os.remove' is blocklisted"),
        (".x", "estimator._target_=.x: ValueError: Error loading '.x': invalid dotstring."),
    ],
)
def test_told_in_one_line(monkeypatch, tmp_path, _package, target, says):
    monkeypatch.chdir(tmp_path)
    typed = ["-cd", str(_package / "conf"), "estimator=mine", f"estimator._target_={target}"]
    with pytest.raises(UserError) as refused:
        checked_plan(typed, CONF)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
