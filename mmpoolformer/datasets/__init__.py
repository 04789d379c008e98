"""Data sets that come with the package. Nothing here imports torch or an OpenMMLab package."""
