"""When the two halves of a block run as one operation each: see mmpoolformer/ops.

With ``fused='auto'`` that is on a CPU, for maps that are not small. Nobody has run the kernels on a
GPU yet, so there the modules run.
"""

from __future__ import annotations

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from mmpoolformer.models.layers import ChannelLayerNorm, ChannelMLP, Scale, StarReLU
from mmpoolformer.models.token_mixers import Pooling
from mmpoolformer.ops import MLPParameters, PoolParameters, channel_mlp, pool_mixer
from mmpoolformer.ops.dispatch import choose


def mix_tokens(block: nn.Module, x: Tensor) -> Tensor | None:
    """Return the first half of ``block`` from one operation, ``None`` if there is none for it."""
    if (implementation := choose(block.fused, x)) == 'reference':
        return None
    norm, mixer, scales = block.norm1, block.token_mixer, (block.layer_scale1, block.res_scale1)
    if type(mixer) is not Pooling or not _has_one_group(norm):
        return None
    if not _can_fuse(block, scales, (norm, mixer, *mixer.children())):
        return None
    parameters = PoolParameters(
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        layer_scale=_scale(block.layer_scale1),
        res_scale=_scale(block.res_scale1),
        drop_factor=_drop_factor(block.drop_path, x),
    )
    size = mixer.pool.kernel_size
    return pool_mixer(x, parameters, pool_size=size, eps=norm.eps, fused=implementation)


def mix_channels(block: nn.Module, x: Tensor, inplace: bool) -> Tensor | None:
    """Return the second half of ``block`` from one operation, ``None`` if there is none for it.

    With ``inplace``, ``x`` may be overwritten where nothing needs a gradient.
    """
    if (implementation := choose(block.fused, x)) == 'reference':
        return None
    norm, mlp, scales = block.norm2, block.mlp, (block.layer_scale2, block.res_scale2)
    per_position = type(norm) is ChannelLayerNorm and norm.elementwise_affine
    if not (per_position or _has_one_group(norm)) or not _is_plain_mlp(mlp):
        return None
    if not _can_fuse(block, scales, (norm, mlp, *mlp.children())):
        return None
    star = type(mlp.act) is StarReLU
    parameters = MLPParameters(
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        fc1_weight=mlp.fc1.weight.flatten(1),
        fc1_bias=mlp.fc1.bias,
        fc2_weight=mlp.fc2.weight.flatten(1),
        fc2_bias=mlp.fc2.bias,
        layer_scale=_scale(block.layer_scale2),
        res_scale=_scale(block.res_scale2),
        drop_factor=_drop_factor(block.drop_path, x),
        act_scale=mlp.act.scale if star else None,
        act_bias=mlp.act.bias if star else None,
    )
    return channel_mlp(
        x,
        parameters,
        act='star_relu' if star else 'gelu',
        per_position=per_position,
        eps=norm.eps,
        inplace=inplace,
        fused=implementation,
    )


def _can_fuse(
    block: nn.Module, scales: tuple[nn.Module, ...], parts: tuple[nn.Module, ...]
) -> bool:
    """Return whether nothing but the block's own code has a part in what its parts compute."""
    return (
        block.residual
        and type(block.drop_path) in (DropPath, nn.Identity)
        and all(type(scale) in (Scale, nn.Identity) for scale in scales)
        and not _all_modules_are_hooked()
        and not any(_is_hooked(part) for part in (*parts, *scales, block.drop_path))
    )


def _all_modules_are_hooked() -> bool:
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def _is_hooked(module: nn.Module) -> bool:
    """Return whether someone wants to see what the module takes or returns, as Grad-CAM does."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _has_one_group(norm: nn.Module) -> bool:
    return type(norm) is nn.GroupNorm and norm.num_groups == 1 and norm.affine


def _is_plain_mlp(mlp: nn.Module) -> bool:
    """Return whether an MLP is as it was built: no adapters, no parametrizations, no dropout."""
    act = type(mlp.act)
    return (
        type(mlp) is ChannelMLP
        and type(mlp.fc1) is type(mlp.fc2) is nn.Conv2d
        and (act is StarReLU or (act is nn.GELU and mlp.act.approximate == 'none'))
        and not (mlp.drop.p and mlp.training)
    )


def _scale(module: nn.Module) -> Tensor | None:
    return module.scale if type(module) is Scale else None


def _drop_factor(drop_path: nn.Module, x: Tensor) -> Tensor | None:
    """Return what DropPath multiplies each sample by, from the same random numbers.

    Under autocast they may be others, as DropPath may then get a branch of a narrower type.
    """
    rate = getattr(drop_path, 'drop_prob', 0.0)
    if not rate or not drop_path.training:
        return None
    keep = 1 - rate
    random = torch.rand((len(x), 1, 1, 1), dtype=x.dtype, device=x.device)
    return (keep + random).floor().div(keep).flatten()
