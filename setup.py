"""Copy models.toml from the root into the wheel, and compile the sampler; all else is in pyproject.toml."""

import sys
from pathlib import Path
from shutil import copyfile

from setuptools import Extension, setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """build_py that also carries the model registry."""

    def run(self) -> None:
        """Build, then put models.toml beside the package's modules."""
        super().run()
        if not self.editable_mode:
            copyfile(Path(__file__).parent / "models.toml", Path(self.build_lib) / "yuegguf" / "models.toml")


# without debug information, which names folders, and without fused operations, which depend on the processor
GCC_FLAGS = ["-O3", "-g0", "-ffp-contract=off"]
SAMPLER = Extension(
    "yuegguf.stages._sampler",
    ["yuegguf/stages/sampler.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=[] if sys.platform == "win32" else GCC_FLAGS,
    py_limited_api=True,
    optional=True,  # without a C compiler or Python's headers numpy samples
)

setup(
    cmdclass={"build_py": BuildWithModels},
    ext_modules=[SAMPLER],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
