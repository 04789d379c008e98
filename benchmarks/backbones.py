"""Compare speed and memory of backbones: ours, timm's, mmpretrain's and transformers'.

All have the same weights and return the maps that their four stages end with, without further
norms. They are timed in turn after it was checked that they compute the same; if not, the exit
status is 1.
"""

import os
import tempfile
from functools import partial

import torch
from torch import nn

from benchmarks.command_line import make_parser, measure_all
from benchmarks.workload import Entry, Setting, Workload, randomise
from mmpoolformer import ARCHS, MetaFormer, convert_state_dict, create_model
from mmpoolformer.ops.dispatch import IMPLEMENTATIONS

# Six minutes on two cores, all of them.
_SHAPES = {'inference': [(1, 800, 1344), (1, 224, 224), (8, 224, 224)], 'training': [(2, 512, 512)]}
# What other packages have, by family.
_PEERS = dict.fromkeys(('poolformerv2', 'convformer', 'caformer'), ('timm',))
_PEERS['poolformer'] = ('timm', 'mmpretrain', 'transformers')


def entries_of(model: str, device: str, *, compiled: bool, channels_last: bool) -> list[Entry]:
    """Return the entries for a device, each also compiled or channels-last if wanted."""
    found = []
    for entry in (*our_entries(device), *map(Entry, _PEERS.get(model.partition('_')[0], ()))):
        found.append(entry)
        if channels_last or entry.source == 'timm' or entry.fused == 'reference':
            found.append(entry._replace(channels_last=True))
    # While it is compiled, ours takes the reference path whatever it is told.
    once = [e for e in found if e.source != 'ours' or e.fused == 'reference']
    return found + [e._replace(fused='', compiled=True) for e in once if compiled]


def our_entries(device: str) -> list[Entry]:
    """Return our implementations; on a CPU ``'auto'`` is ``'torch'``, and Triton does not run."""
    names = IMPLEMENTATIONS if device.startswith('cuda') else ('auto', 'reference')
    return [Entry('ours', name) for name in names]


def build(model: str, entry: Entry, setting: Setting) -> Workload:
    """Return a backbone at work; the random weights are the same for all entries."""
    torch.manual_seed(0)
    # RandFormer's matrices are made for one size of images.
    options = dict(interpolate=True) if model.startswith('randformer') else {}
    options |= dict(fused=entry.fused or 'auto', out_norm_cfg=dict(type='Identity'))
    module, to_ours = create_model(model, **options), dict
    randomise(module)
    if entry.source != 'ours':
        weights = module.state_dict()
        module, layout, (part, instead) = _peer(entry.source, model, module)
        theirs = convert_state_dict(weights, layout)
        module.load_state_dict({k.replace(part, instead, 1): t for k, t in theirs.items()})

        def to_ours(named):
            return convert_state_dict({k.replace(instead, part, 1): t for k, t in named.items()})

    run = torch.compile(module) if entry.compiled else module

    def maps(images):
        output = run(images)
        return getattr(output, 'hidden_states', output)

    return Workload(module, entry, setting, maps, to_ours=to_ours)


def mmpretrain_config(ours: MetaFormer) -> dict:
    """Return the arguments of mmpretrain's PoolFormer with the same stages and outputs."""
    arch = dict(layers=ours.arch.depths, embed_dims=ours.arch.dims, mlp_ratios=[4] * 4)
    arch |= dict(layer_scale_init_value=ours.arch.layer_scale)
    # frozen_stages=0 would freeze the stem.
    return dict(arch=arch, out_indices=[2 * i for i in ours.out_indices], frozen_stages=-1)


def _peer(source: str, name: str, ours: MetaFormer) -> tuple[nn.Module, str, tuple[str, str]]:
    """Return another package's backbone, the layout of its weights, and how its keys differ."""
    if source == 'timm':
        import timm

        model = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3))
        return model, 'timm', ('stages.', 'stages_')
    if source == 'mmpretrain':
        from mmpretrain.models import PoolFormer

        model = PoolFormer(**mmpretrain_config(ours))
        for index in model.out_indices:
            setattr(model, f'norm{index}', nn.Identity())
        return model, 'authors', ('', '')
    from transformers import PoolFormerConfig, PoolFormerModel

    arch = dict(depths=ours.arch.depths, hidden_sizes=ours.arch.dims)
    scale = ours.arch.layer_scale
    config = PoolFormerConfig(**arch, layer_scale_init_value=scale, output_hidden_states=True)
    return PoolFormerModel(config), 'transformers', ('poolformer.', '')


def main() -> None:
    parser = make_parser('benchmarks.backbones', __doc__)
    add = parser.add_argument
    add('--models', nargs='+', choices=ARCHS, metavar='NAME', default=['poolformer_s12'])
    add('--amp', action='store_true', help='weights stay in float32, autocast brings the others')
    add('--compile', action='store_true', help='each under torch.compile, too: takes minutes')
    add('--channels-last', action='store_true', help='each in that format, too')
    args = parser.parse_args()
    options = dict(compiled=args.compile, channels_last=args.channels_last)
    subjects = [(m, partial(build, m), entries_of(m, args.device, **options)) for m in args.models]
    with tempfile.TemporaryDirectory() as folder:  # Nobody profits from what was compiled before.
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = folder
        measure_all(args, subjects, _SHAPES)


if __name__ == '__main__':
    main()
