"""The part of the packaging that must be code; pyproject.toml has the rest."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent


class WheelForMim(bdist_wheel):
    """Puts configs, tools and the model index where mim looks for them in an installed package.

    openmim looks into `mmpoolformer/`. onedl-mim looks into the folder that comes first in pip's
    list of the files, and `mmpoolformer-<version>.dist-info/` sorts before it: so both get a copy.
    None goes through `build/`, which onedl-mim searches, too, if the clone is installed as well.
    """

    def write_wheelfile(self, wheelfile_base: str, *args, **kwargs) -> None:
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        wheel, metadata = Path(self.bdist_dir), Path(wheelfile_base)
        if metadata.parent != wheel:  # An editable install: mim then looks in the repository.
            return
        # The demo and the tools for maintenance need the clone.
        ignore = shutil.ignore_patterns('__pycache__', 'demo', 'maintenance')
        for target in (wheel / 'mmpoolformer' / '.mim', metadata / '.mim'):
            shutil.rmtree(target, ignore_errors=True)
            for folder in ('configs', 'tools'):
                shutil.copytree(ROOT / folder, target / folder, ignore=ignore)
            shutil.copy(ROOT / 'model-index.yml', target)


setup(cmdclass={'bdist_wheel': WheelForMim})
