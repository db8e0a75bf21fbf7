"""Put the examples and the demo's data into a wheel: they lie outside the package, where users look for them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


FILES = ("examples/*/*.yaml", "examples/*/*.json", "data/dataset_info.json", "data/demo_*.json")
"""Not all of data/, into which users put theirs; MANIFEST.in names the same."""


class BuildWithExamples(build_py):
    """Builds the package; a wheel, not an editable install, with its folder shipped/."""

    def run(self) -> None:
        """Copy the package, then the files."""
        super().run()
        if self.editable_mode:
            return
        for path in sorted(path for pattern in FILES for path in Path().glob(pattern)):
            target = Path(self.build_lib, "llamafactory_sdpo", "shipped", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithExamples})
