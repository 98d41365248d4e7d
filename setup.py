"""Puts conf/, which stands at the top of the project, into the package that is installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigurations(build_py):
    """Copies conf/ to srste/conf; an editable install finds it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            inside = Path(self.build_lib) / "srste" / "conf"
            shutil.copytree(Path(__file__).parent / "conf", inside, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConfigurations})
