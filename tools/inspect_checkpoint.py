"""Say what a checkpoint file holds, without executing anything in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from mmpoolformer.checkpoint import (
    CheckpointError,
    backbone_part,
    convert_state_dict,
    detect_layout,
    fetch,
    read_checkpoint,
    read_metadata,
    unwrap,
    wrapper_of,
)
from mmpoolformer.checkpoint.loading import name_arch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='file, address, metaformer://NAME or hf-hub:REPOSITORY')
    parser.add_argument('--keys', action='store_true', help='list every tensor')
    return parser.parse_args()


def describe(value: object) -> str:
    """Return a short description of a checkpoint's entry."""
    if isinstance(value, Mapping):
        return f'{len(value)} entries'
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def facts(path: Path) -> tuple[dict[str, str], dict]:
    """Return what is known of the file, by headings, and its state dict."""
    checkpoint = read_checkpoint(path)
    weights = unwrap(checkpoint)
    wrapper = wrapper_of(checkpoint)
    found = {'file': f'{path} ({path.stat().st_size / 1e6:.1f} MB)'}
    try:
        found['layout'] = detect_layout(weights).name
        ours = convert_state_dict(weights)
        body = backbone_part(ours)
        found['model'] = name_arch(body or ours)
        parts = sorted({key.split('.')[0] for key in ours} - {'stem', 'stages'})
        found['parts'] = ', '.join(parts if body else ['stem, stages', *parts])
    except CheckpointError as error:
        found['layout'] = f'unknown: {error}'
    dtypes = sorted({str(tensor.dtype).removeprefix('torch.') for tensor in weights.values()})
    numbers = sum(tensor.numel() for tensor in weights.values())
    found['tensors'] = f'{len(weights)} of {", ".join(dtypes)}, {numbers:,} numbers'
    found['wrapper'] = wrapper or 'none'
    if wrapper:
        for key, value in checkpoint.items():
            if key != wrapper:
                found[f'  {key}'] = describe(value)
    for key, value in read_metadata(path).items():
        found[f'  metadata {key}'] = describe(value)
    return found, weights


def main() -> None:
    args = parse_args()
    try:
        found, weights = facts(fetch(args.checkpoint))
    except CheckpointError as error:
        sys.exit(f'{error}')
    width = max(map(len, found))
    for heading, text in found.items():
        print(f'{heading:<{width}}  {text}')
    if args.keys:
        for key, tensor in weights.items():
            print(f'{key}  {tuple(tensor.shape)}')


if __name__ == '__main__':
    main()
