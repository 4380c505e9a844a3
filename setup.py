"""Copy models.toml from the root into the wheel; everything else is in pyproject.toml."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """build_py that also carries the model registry."""

    def run(self) -> None:
        """Build, then put models.toml beside the package's modules."""
        super().run()
        if not self.editable_mode:
            copyfile(Path(__file__).parent / "models.toml", Path(self.build_lib) / "yuegguf" / "models.toml")


setup(cmdclass={"build_py": BuildWithModels})
