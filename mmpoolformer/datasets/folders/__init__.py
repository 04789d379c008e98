"""Reads folders of people's own pictures, in the formats that labelling tools write.

Each format has a module that reads it into one :class:`Folder`. From there on the format does not
matter: splits are made, and labels are written in the standard formats that training reads.
"""

from mmpoolformer.datasets.folders.description import Finding, Folder, FolderError
from mmpoolformer.datasets.folders.recognising import READERS, read_folder
from mmpoolformer.datasets.folders.splitting import with_splits
from mmpoolformer.datasets.folders.writing import write_annotations

__all__ = [
    'READERS',
    'Finding',
    'Folder',
    'FolderError',
    'read_folder',
    'with_splits',
    'write_annotations',
]
