"""MetaFormer, the general architecture, as a multi-scale backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmpoolformer.checkpoint import convert_classifier_keys, convert_own_keys, load_pretrained
from mmpoolformer.models.blocks import MetaFormerBlock, MetaFormerStage, TokenMixer
from mmpoolformer.models.layers import Downsampling, build_norm
from mmpoolformer.registry import MODELS
from mmpoolformer.zoo.archs import Arch, get_arch

# The stem's window of 7 pixels takes in 2 beyond each border.
_SMALLEST_SIDE = 3


@MODELS.register_module()
class MetaFormer(BaseModule):
    """Backbone of four stages that returns normalised features of the stages asked for.

    Strides are 4, 8, 16 and 32. The stem pads by 2, so its map is ``(H + 1) // 4`` high; each
    later stage halves, rounding up. Images have at least 3 pixels a side; below 32 the last maps
    are single positions. Stages behind the last of ``out_indices`` are not built.

    Args:
        arch: Depths, widths and LayerScale: a row of :data:`mmpoolformer.ARCHS`, its name, such as
            ``'poolformer_s12'``, or a mapping.
        token_mixers: Config of the token mixer, such as ``dict(type='Attention')``, see
            :data:`mmpoolformer.models.token_mixers.TOKEN_MIXERS`, a builder ``dim -> module``, or
            one of these per stage.
        in_channels: Channels of the images.
        mlp_ratio: Hidden channels of the MLPs over the stage's channels, ``None`` for no MLPs. This
            and the other parts of a block are one for all stages, or a list of four, one each:
            ``norm_cfg``, ``act_cfg``, ``layer_scale``, ``res_scale``, ``residual``.
        norm_cfg: Config of the blocks' norms, on ``(B, C, H, W)``.
        downsample_norm_cfg: Config of a norm after the stem's convolution and before those of the
            other down-samplings, ``None`` for none.
        out_norm_cfg: Config of the output norms, by default ``norm_cfg`` with a bias.
        act_cfg: Config of the MLPs' activations.
        mlp_bias: Whether the MLPs have biases.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic depth of the last block; block k of n has ``rate * k / (n-1)``.
        layer_scale: Initial value of LayerScale, ``'arch'`` for that of ``arch``, ``None`` for a
            model without it; 1 makes it BranchScale.
        res_scale: Initial value of ResScale, ``None`` for none.
        residual: Whether blocks have residual connections.
        out_indices: Stages (0 to 3) whose features are returned; only these have an output norm.
            Negative ones count from the end.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the first k stages with their
            output norms.
        norm_eval: Whether BatchNorm keeps its running statistics in training.
        with_cp: Gradient checkpointing: less memory, one more forward pass of every block.
        fused: ``'auto'`` takes the fused operations of :mod:`mmpoolformer.ops` where they were
            measured to win, on CPUs; ``'reference'`` takes none; ``'torch'`` and ``'triton'`` name
            an implementation, and raise if it cannot run. Results and state dict are the same.
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint='metaformer://poolformer_s12')``
            loads strictly; ``strict`` and ``folder`` in it are those of
            :func:`mmpoolformer.load_pretrained`.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output.
        out_strides (tuple[int, ...]): Stride of each output in image pixels.
        norm_before_pooling (bool): Whether classifiers normalise the last map before they pool it,
            so that a lone last output's norm is theirs.

    Raises:
        ValueError: If an argument is out of range; the message says what is allowed.
    """

    norm_before_pooling = True

    def __init__(
        self,
        arch: Arch | str | Mapping,
        token_mixers: TokenMixer | Sequence[TokenMixer],
        *,
        in_channels: int = 3,
        mlp_ratio: float | Sequence[float | None] | None = 4.0,
        norm_cfg: dict | Sequence[dict] | None = None,
        downsample_norm_cfg: dict | None = None,
        out_norm_cfg: dict | None = None,
        act_cfg: dict | Sequence[dict] | None = None,
        mlp_bias: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: float | str | Sequence[float | None] | None = 'arch',
        res_scale: float | Sequence[float | None] | None = None,
        residual: bool | Sequence[bool] = True,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        fused: str = 'auto',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        arch = arch if isinstance(arch, Arch) else get_arch(None, arch)
        slots = _slots(
            token_mixers=token_mixers,
            mlp_ratio=mlp_ratio,
            norm_cfg=norm_cfg or dict(type='GN', num_groups=1),
            act_cfg=act_cfg or dict(type='GELU'),
            layer_scale=layer_scale,
            res_scale=res_scale,
            residual=residual,
        )
        for slot in slots:
            _check_ranges(
                in_channels=in_channels,
                mlp_ratio=slot['mlp_ratio'],
                drop_rate=drop_rate,
                drop_path_rate=drop_path_rate,
                layer_scale=slot['layer_scale'],
                frozen_stages=frozen_stages,
            )
            if slot['layer_scale'] == 'arch':
                slot['layer_scale'] = arch.layer_scale
        self.arch = arch
        self.in_channels = in_channels
        self.out_indices = _normalise_out_indices(out_indices)
        self.out_channels = tuple(arch.dims[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        drop_paths = iter(_drop_path_rates(drop_path_rate, arch.depths))
        self.stem = Downsampling(
            in_channels,
            arch.dims[0],
            kernel_size=7,
            stride=4,
            padding=2,
            post_norm_cfg=downsample_norm_cfg,
        )
        self.stages = nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            depth, dim = arch.depths[i], arch.dims[i]
            mixer = slots[i].pop('token_mixers')
            blocks = [
                MetaFormerBlock(
                    dim,
                    mixer,
                    **slots[i],
                    drop_rate=drop_rate,
                    drop_path_rate=next(drop_paths),
                    mlp_bias=mlp_bias,
                    fused=fused,
                )
                for _ in range(depth)
            ]
            downsample = nn.Identity()
            if i > 0:
                downsample = Downsampling(
                    arch.dims[i - 1],
                    dim,
                    kernel_size=3,
                    stride=2,
                    padding=1,
                    pre_norm_cfg=downsample_norm_cfg,
                )
            self.stages.append(MetaFormerStage(downsample, blocks, with_cp))
        for i in self.out_indices:
            norm = out_norm_cfg or {**slots[i]['norm_cfg'], 'bias': True}
            self.add_module(f'norm{i}', build_norm(norm, arch.dims[i]))

        self.register_load_state_dict_pre_hook(convert_own_keys)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x: Images, ``(B, in_channels, H, W)`` with ``H, W >= 3``.

        Returns:
            One map ``(B, dims[i], h_i, w_i)`` for each stage i of ``out_indices``.

        Raises:
            ValueError: If ``x`` does not have four axes and ``in_channels`` channels, or is smaller
                than the stem's window.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'input of shape {tuple(x.shape)}: expected (B, {self.in_channels}, H, W); for '
                'other images set in_channels, e.g. in_channels=1 for greyscale'
            )
        # Not while a compiler reads this: it would take the bound for a condition of its program.
        if not torch.compiler.is_compiling() and min(x.shape[2:]) < _SMALLEST_SIDE:
            raise ValueError(
                f'image of {x.shape[2]}x{x.shape[3]} pixels: the stem needs at least '
                f'{_SMALLEST_SIDE} a side, and from 32 on every stage has more than one position; '
                'resize or pad it'
            )
        x = self.stem(x)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outputs.append(getattr(self, f'norm{i}')(x))
        return tuple(outputs)

    def train(self, mode: bool = True) -> MetaFormer:
        """Switch mode, leaving frozen stages (and, with ``norm_eval``, BatchNorm) in eval."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load the ``Pretrained`` entry of ``init_cfg`` strictly; leave others to mmengine.

        Raises:
            CheckpointError: If the weights do not fit; the message names keys and likely cause.
        """
        configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        pretrained = [cfg for cfg in configs if cfg['type'] in ('Pretrained', 'PretrainedInit')]
        original = self.init_cfg
        # mmengine reports a mismatch as one warning and goes on, so it must not see these.
        self.init_cfg = [cfg for cfg in configs if cfg not in pretrained] or None
        try:
            super().init_weights()
        finally:
            self.init_cfg = original
        for cfg in pretrained:
            options = {key: value for key, value in cfg.items() if key in ('strict', 'folder')}
            load_pretrained(self, cfg['checkpoint'], **options)

    def _dump_init_info(self) -> None:
        """Log one line, where mmengine logs one per parameter, in a backbone of its own."""
        number = sum(parameter.numel() for parameter in self.parameters())
        name = f'{type(self).__name__} of {number:,} parameters'
        print_log(f'Initialised {name}.', logger='current')

    def _checkpoint_filter(self, state_dict: dict, prefix: str, *_) -> None:
        """Let whole classifiers load: mmpretrain's ImageClassifier makes this its pre-hook."""
        convert_classifier_keys(state_dict, prefix, norm_before_pooling=self.norm_before_pooling)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem]
        for i in range(min(self.frozen_stages, len(self.stages))):
            frozen.append(self.stages[i])
            if i in self.out_indices:
                frozen.append(getattr(self, f'norm{i}'))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)


def _slots(**options: object) -> list[dict]:
    """Return the options of each of the four stages; what is no list is the same in all."""
    for name, value in options.items():
        if isinstance(value, list | tuple) and len(value) != 4:
            raise ValueError(
                f'{name} has {len(value)} entries: give one for all, or four, one per stage'
            )
    return [
        {
            name: value[i] if isinstance(value, list | tuple) else value
            for name, value in options.items()
        }
        for i in range(4)
    ]


def _drop_path_rates(rate: float, depths: Sequence[int]) -> list[float]:
    """Return one rate per block, rising linearly from 0 to ``rate``."""
    last = sum(depths) - 1
    return [rate * k / last if last else 0.0 for k in range(last + 1)]


def _normalise_out_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    stages = tuple(i + 4 if i < 0 else i for i in given)
    if not stages or any(i not in range(4) for i in stages) or list(stages) != sorted(set(stages)):
        raise ValueError(
            f'out_indices={out_indices}: give stages from 0 to 3 (or -4 to -1), each once and in '
            'ascending order, e.g. (0, 1, 2, 3), or (1, 2, 3) for RetinaNet'
        )
    return stages


def _check_ranges(
    *,
    in_channels: int,
    mlp_ratio: float | None,
    drop_rate: float,
    drop_path_rate: float,
    layer_scale: float | str | None,
    frozen_stages: int,
) -> None:
    checks = [
        (in_channels >= 1, f'in_channels={in_channels}: must be at least 1'),
        (
            mlp_ratio is None or mlp_ratio > 0,
            f'mlp_ratio={mlp_ratio}: must be positive, or None for no MLP; the paper uses 4',
        ),
        (0 <= drop_rate < 1, f'drop_rate={drop_rate}: must lie in [0, 1)'),
        (0 <= drop_path_rate < 1, f'drop_path_rate={drop_path_rate}: must lie in [0, 1)'),
        (
            layer_scale in ('arch', None) or not isinstance(layer_scale, str),
            f"layer_scale={layer_scale!r}: give a number, None for none, or 'arch'",
        ),
        (
            frozen_stages in range(-1, 5),
            f'frozen_stages={frozen_stages}: -1 freezes nothing, 0 the stem, 1 to 4 the stem and '
            'that many stages',
        ),
    ]
    for passed, message in checks:
        if not passed:
            raise ValueError(message)
