"""What a run should be read with: versions, processor, threads, date, and how busy it was."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

BUSY = 0.5  # Load average from which another process takes part of a core most of the time.
_PACKAGES = (
    *('mmpoolformer', 'torch', 'triton', 'timm', 'transformers'),
    *('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmdetection'),
    *('onedl-mmsegmentation', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmsegmentation'),
)


def describe(device: str) -> dict[str, object]:
    """Return what to know about this run; ``device`` is the one measured."""
    facts = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': command(),
        'processor': processor(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'system': platform.platform(),
        'python': platform.python_version(),
        'versions': versions(),
    }
    if torch.device(device).type == 'cuda':
        facts |= {
            'gpu': torch.cuda.get_device_name(device),
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
            'tf32': torch.backends.cuda.matmul.allow_tf32,
        }
    return facts


def command() -> str:
    """Return the command line that was given, the tool's folder as in a clone."""
    tool = Path(sys.argv[0])
    return shlex.join(['python', f'{tool.parent.name}/{tool.name}', *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the processor's name."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace')
    except OSError:
        text = ''
    found = re.search(r'model name\s*:\s*(.+)', text)
    return found[1] if found else platform.processor() or platform.machine()


def load() -> float | None:
    """Return how many processes wanted to run during the last minute, on average."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
