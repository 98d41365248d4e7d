"""What a user's own code is built on: as much is seen as Python imports when it runs, and nothing is
imported to see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from srste.store import provenance, sources
from srste.store.sources import modules_of

LAYOUTS = {
    "a file in the folder": (
        {"single.py": "class Own: pass", "other.py": ""},
        "single.Own",
        {"single"},
    ),
    "a file beside it": (
        {"two.py": "import helper_of_two\nclass Own: pass", "helper_of_two.py": "A = 1"},
        "two.Own",
        {"two", "helper_of_two"},
    ),
    "relative: a name of a module": (
        {
            "rel/__init__.py": "",
            "rel/core.py": "SCALE = 1",
            "rel/est.py": "from .core import SCALE\nclass Own: pass",
            "rel/other.py": "",
        },
        "rel.est.Own",
        {"rel.est", "rel.core"},
    ),
    "relative: a module": (
        {
            "relmod/__init__.py": "A = 1",
            "relmod/core.py": "SCALE = 1",
            "relmod/est.py": "from . import core\nclass Own: pass",
        },
        "relmod.est.Own",
        {"relmod", "relmod.est", "relmod.core"},
    ),
    "relative: two dots": (
        {
            "up/__init__.py": "",
            "up/one/__init__.py": "",
            "up/one/est.py": "from ..two import x\nfrom ..two.deep.y import Z\nclass Own: pass",
            "up/two/__init__.py": "B = 1",
            "up/two/x.py": "B = 1",
            "up/two/deep/__init__.py": "C = 1",
            "up/two/deep/y.py": "Z = 1",
            "up/two/other.py": "B = 1",
        },
        "up.one.est.Own",
        {"up.one.est", "up.two", "up.two.x", "up.two.deep", "up.two.deep.y"},
    ),
    "a submodule under another name": (
        {
            "renamed/__init__.py": "",
            "renamed/sub.py": "A = 1",
            "renamed/est.py": "import renamed.sub as s\nclass Own: pass",
        },
        "renamed.est.Own",
        {"renamed.est", "renamed.sub"},
    ),
    "re-exported by the package": (
        {
            "public/__init__.py": "from .impl import Own",
            "public/impl.py": "from public._deep import Base\nclass Own(Base): pass",
            "public/_deep.py": "class Base: pass",
            "public/other.py": "A = 1",
        },
        "public.Own",
        {"public", "public.impl", "public._deep"},
    ),
    "through another package's __init__": (
        {
            "via/__init__.py": "",
            "via/est.py": "from via_lib import scale\nclass Own: pass",
            "via_lib/__init__.py": "from .numbers_ import scale",
            "via_lib/numbers_.py": "scale = 1",
        },
        "via.est.Own",
        {"via.est", "via_lib", "via_lib.numbers_"},
    ),
    "everything of a package": (
        {
            "star/__init__.py": "",
            "star/est.py": "from .parts import *\nclass Own: pass",
            "star/parts/__init__.py": "__all__ = ['one']\n__all__ += ['two']\nx = 'three'",
            "star/parts/one.py": "A = 1",
            "star/parts/two.py": "A = 1",
            "star/parts/three.py": "A = 1",
        },
        "star.est.Own",
        {"star.est", "star.parts", "star.parts.one", "star.parts.two"},
    ),
    "inside a function": (
        {
            "late/__init__.py": "",
            "late/est.py": "def own():\n    from .core import A\n    import late_helper\n    return A",
            "late/core.py": "A = 1",
            "late_helper.py": "A = 1",
        },
        "late.est.own",
        {"late.est", "late.core", "late_helper"},
    ),
    "by a text": (
        {
            "text/__init__.py": "",
            "text/est.py": """
                import importlib
                from importlib import import_module

                def own():
                    import_module("text.one"), importlib.import_module(".two", __package__)
                    __import__("text_helper")
                    str("text.three")
            """,
            "text/one.py": "A = 1",
            "text/two.py": "A = 1",
            "text/three.py": "A = 1",
            "text_helper.py": "A = 1",
        },
        "text.est.own",
        {"text.est", "text.one", "text.two", "text_helper"},
    ),
    "a nested class": (
        {
            "nested/__init__.py": "",
            "nested/mod.py": "from .core import A\nclass Outer:\n    class Inner: pass",
            "nested/core.py": "A = 1",
        },
        "nested.mod.Outer.Inner",
        {"nested.mod", "nested.core"},
    ),
    "folders without __init__": (
        {
            "bare/inner/est.py": "from ..lib.core import A\nclass Own: pass",
            "bare/lib/core.py": "A = 1",
            "bare/lib/other.py": "A = 1",
        },
        "bare.inner.est.Own",
        {"bare.inner.est", "bare.lib.core"},
    ),
    "a folder without __init__ beside it": (
        {"ns.py": "from ns_lib.core import A\nclass Own: pass", "ns_lib/core.py": "A = 1"},
        "ns.Own",
        {"ns", "ns_lib.core"},
    ),
    "imports in a circle": (
        {
            "circle/__init__.py": "",
            "circle/a.py": "from . import b\nclass Own: pass",
            "circle/b.py": "from . import a\nfrom .c import C",
            "circle/c.py": "C = 1",
        },
        "circle.a.Own",
        {"circle.a", "circle.b", "circle.c"},
    ),
    "in any branch": (
        {
            "branch/__init__.py": "",
            "branch/est.py": """
                try:
                    from ._missing import A
                except ImportError:
                    from ._there import A
                class Own:
                    from ._within import B
            """,
            "branch/_there.py": "A = 1",
            "branch/_within.py": "B = 1",
        },
        "branch.est.Own",
        {"branch.est", "branch._there", "branch._within"},
    ),
}
"""What: files, what a `_target_` names, the modules with code in them that it needs."""

MADE_NAMES = {
    "lazy/__init__.py": """
        import importlib
        def __getattr__(name):
            if name in ("Own",):
                return getattr(importlib.import_module("." + name.lower(), __name__), name)
            raise AttributeError(name)
    """,
    "lazy/own.py": "from .core import A\nclass Own: pass",
    "lazy/sub/__init__.py": "A = 1",
    "lazy/sub/deep.py": "A = 1",
    "lazy/core.py": "A = 1",
    "files/__init__.py": "A = 1",
    "files/est.py": """
        from importlib import util
        from pathlib import Path
        import sys

        def own():
            spec = util.spec_from_file_location("files.plugin", Path(__file__).with_name("plugin.py"))
            module = sys.modules["files.plugin"] = util.module_from_spec(spec)
            spec.loader.exec_module(module)
    """,
    "files/plugin.py": "A = 1",
    "renames/__init__.py": """
        from importlib import import_module as load
        Own = load('renames.' + 'x').Own
    """,
    "renames/x.py": "class Own: pass",
    "renames/alone/__init__.py": "A = 1",
    "nest/__init__.py": "A = 1",
    "nest/other.py": "class Own: pass",
    "nest/inner/__init__.py": """
        import importlib
        Own = importlib.import_module(".".join(["nest", "other"])).Own
    """,
    "paths/__init__.py": """
        from pathlib import Path
        from runpy import run_path as go

        def own():
            go(str(Path(__file__).with_name("x.py")))
    """,
    "paths/x.py": "A = 1",
}
"""Packages that import by names that they make, or by paths."""
USED = ["lazy.Own", "files.est.own", "renames.Own", "nest.inner.Own", "paths.own"]
"""What is used of each."""


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def forget():
    for module in (sources, provenance):
        for function in vars(module).values():
            if hasattr(function, "cache_clear") and function.__module__ == module.__name__:
                function.cache_clear()


@pytest.fixture
def forgetful():
    forget()
    yield
    forget()


LOADED = """
import json, pydoc, sys
folder, targets = sys.argv[1], sys.argv[2:]
loaded = {}
for target in targets:
    before = set(sys.modules)
    pydoc.locate(target)()
    files = {n: getattr(sys.modules[n], "__file__", None) for n in set(sys.modules) - before}
    loaded[target] = [n for n, f in files.items() if f and f.startswith(folder) and open(f).read()]
print(json.dumps(loaded))
"""
"""Prints the modules with code in them that Python itself loads when it uses each target."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    for files, _, _ in LAYOUTS.values():
        write(folder, files)
    write(folder, MADE_NAMES)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    targets = [target for _, target, _ in LAYOUTS.values()]
    targets += USED
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(folder), *targets], check=True, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(folder)},
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_counts_is_what_python_loads(layout, folder, loaded, monkeypatch, forgetful):
    _, target, modules = LAYOUTS[layout]
    monkeypatch.syspath_prepend(folder)
    assert set(loaded[target]) == modules, "the layout does what it says"
    assert modules_of([target]) == modules
    assert target.partition(".")[0] not in sys.modules


@pytest.mark.parametrize("target", USED)
def test_where_only_running_tells_all_of_the_package_counts(
    target, folder, loaded, monkeypatch, forgetful
):
    monkeypatch.syspath_prepend(folder)
    package = target.partition(".")[0]
    paths = [path.relative_to(folder) for path in (folder / package).rglob("*.py")]
    there = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    assert set(loaded[target]) <= there
    assert modules_of([target]) == there
    assert package not in sys.modules


def test_a_change_of_any_of_them_is_another_key_and_of_others_none(folder, monkeypatch, forgetful):
    monkeypatch.syspath_prepend(folder)

    def key(target):
        sources.source_of.cache_clear()
        provenance._digest_of.cache_clear()
        return provenance.key_of({"estimator": {"name": "mine", "_target_": target}})

    for files, target, modules in LAYOUTS.values():
        before = key(target)
        for name, text in files.items():
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            if text:
                (folder / name).write_text(f"{textwrap.dedent(text)}\n# another line\n")
                assert (key(target) != before) == (module in modules), name
                (folder / name).write_text(textwrap.dedent(text))
        assert key(target) == before


def test_parts_of_one_package_in_two_places(tmp_path, monkeypatch, forgetful):
    write(tmp_path / "one", {"apart/sub/est.py": "from apart.sub.core import A\nclass Own: pass"})
    write(tmp_path / "two", {"apart/sub/core.py": "A = 1"})
    monkeypatch.syspath_prepend(tmp_path / "one")
    monkeypatch.syspath_prepend(tmp_path / "two")
    assert modules_of(["apart.sub.est.Own"]) == {"apart.sub.est", "apart.sub.core"}


def test_installed_packages_are_followed_within_themselves_alone(tmp_path, monkeypatch, forgetful):
    installed = {
        "theirs/__init__.py": "from .core import A",
        "theirs/core.py": "import others, json, srste.problem.data, theirs.sub.deep\nA = 1",
        "theirs/sub/__init__.py": "A = 1",
        "theirs/sub/deep.py": "from .. import more",
        "theirs/more.py": "A = 1",
        "others.py": "A = 1",
    }
    write(tmp_path / "site-packages", installed)
    write(tmp_path, {"ours.py": "import theirs, json, torch.nn\nfrom srste.estimators import angles"})
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path)
    ours = modules_of(["ours.Own"])
    assert {name for name in ours if not name.startswith("srste")} == {"ours"}
    assert "srste.estimators.angles" in ours
    theirs = modules_of(["theirs.A"])
    assert {name for name in theirs if not name.startswith("srste")} == {
        "theirs", "theirs.core", "theirs.sub", "theirs.sub.deep", "theirs.more",
    }  # fmt: skip
    assert "srste.problem.data" in theirs


def test_what_is_no_python_or_is_not_there_is_no_error(tmp_path, monkeypatch, forgetful):
    files = {
        "odd/__init__.py": "from .broken import A\nfrom ...far import B\nfrom .c import C\nimport odd1",
        "odd/broken.py": "print 'Python 2'\x00",
        "odd/warned.py": "A = '\\d'",
    }
    write(tmp_path, files)
    monkeypatch.syspath_prepend(tmp_path)
    assert modules_of(["odd.A", "nowhere.at.all", "odd..warned", "", "odd.warned.A"]) == {
        "odd", "odd.broken", "odd.warned",
    }  # fmt: skip


def test_left_out_with_all_below_and_not_followed(tmp_path, monkeypatch, forgetful):
    files = {
        "part/__init__.py": "A = 1",
        "part/est.py": "import part.shown.bar, part.shownot",
        "part/shown/__init__.py": "A = 1",
        "part/shown/bar.py": "import part.behind",
        "part/shownot.py": "A = 1",
        "part/behind.py": "A = 1",
    }
    write(tmp_path, files)
    monkeypatch.syspath_prepend(tmp_path)
    assert modules_of(["part.est"], ["part.shown"]) == {"part", "part.est", "part.shownot"}


def test_a_script_s_own_class(tmp_path):
    """`__main__` is a module without a place in the import system."""
    write(tmp_path, {"mine.py": "A = 1", "script.py": """
        import mine
        from srste.store.sources import modules_of
        print(*sorted(m for m in modules_of(["__main__.Own"]) if not m.startswith("srste")))
    """})  # fmt: skip
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["__main__", "mine"]
