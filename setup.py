"""Packaging.

The OpenMMLab packages are extras, because two families of them provide the same import names.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent

# Ranges for users of the library; requirements/ pins what the tests run with.
EXTRAS = {
    'onedl': [
        'onedl-mmcv>=2.3.6,<2.4',
        'onedl-mmengine>=0.10.12,<1',
        'onedl-mmdetection>=3.5.1,<3.6',
        'onedl-mmsegmentation>=1.4.2,<1.5',
        'onedl-mmpretrain>=1.3.6,<1.4',
        'ftfy>=6',
        'regex',
    ],
    'openmmlab': [
        # mmcv without its operators, which take a compiler and minutes: mmpoolformer brings those
        # that its models call. The import names are the same, so one replaces the other.
        'mmcv-lite>=2.1,<2.2',
        'mmengine>=0.10.7,<1',
        'mmdet>=3.3,<3.4',
        'mmsegmentation>=1.2.2,<1.3',
        'mmpretrain>=1.2,<1.3',
        'ftfy>=6',
        'regex',
        # mmengine imports pkg_resources, which setuptools 82 dropped.
        'setuptools<82',
    ],
    'hub': ['huggingface_hub>=0.23'],
    # What tools/visualize.py draws class activation maps with.
    'cam': ['grad-cam>=1.5,<2'],
    'dev': ['pytest>=8', 'ruff>=0.17,<0.18', 'pre-commit>=4'],
    # What tests compare with. mmpretrain cannot be imported beside transformers 5.
    'peers': ['timm>=1', 'transformers>=4.40,<5'],
}


def read_version() -> str:
    """Returns the version without importing the package, as torch need not be installed yet."""
    text = (ROOT / 'mmpoolformer' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)[1]


def read_readme() -> str:
    """Returns the long description, empty in a checkout that has none."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


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


setup(
    name='mmpoolformer',
    version=read_version(),
    description='PoolFormer and the MetaFormer family as backbones for the OpenMMLab packages',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmpoolformer', 'mmpoolformer.*']),
    cmdclass={'bdist_wheel': WheelForMim},
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',
        'torchvision>=0.21',
        'numpy>=1.26',
        'pillow>=10',
        'matplotlib>=3.8',
        'safetensors>=0.4',
        'tqdm>=4.66',
    ],
    extras_require=EXTRAS,
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
