"""Rewrite a checkpoint's weights in the layout of another project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpoolformer.checkpoint import (
    LAYOUTS,
    CheckpointError,
    convert_state_dict,
    detect_layout,
    fetch,
    read_checkpoint,
    unwrap,
    write_weights,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file, address, metaformer://NAME or hf-hub:REPOSITORY')
    parser.add_argument('dst', type=Path, help='file to write: *.safetensors, *.pth or *.bin')
    parser.add_argument(
        '--layout',
        choices=[layout.name for layout in LAYOUTS],
        default='mmpoolformer',
        help='default: %(default)s',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    return parser.parse_args()


def convert(args: argparse.Namespace) -> str:
    """Convert, and return the report.

    Raises:
        CheckpointError: If the source cannot be read or converted, or DST not be written.
    """
    if args.dst.exists() and not args.overwrite:
        raise CheckpointError(f'{args.dst} exists: choose another name, or add --overwrite')
    weights = unwrap(read_checkpoint(fetch(args.src)))
    try:
        source = detect_layout(weights).name
        converted = convert_state_dict(weights, args.layout)
    except CheckpointError as error:
        raise CheckpointError(f'{args.src}: {error}') from None
    write_weights(converted, args.dst)
    renamed = sum(1 for old, new in zip(weights, converted, strict=True) if old != new)
    return (
        f'{args.src} (layout {source}) -> {args.dst} (layout {args.layout}): '
        f'{len(converted)} of {len(weights)} tensors, {renamed} renamed'
    )


def main() -> None:
    args = parse_args()
    try:
        print(convert(args))
    except CheckpointError as error:
        sys.exit(f'{error}')


if __name__ == '__main__':
    main()
