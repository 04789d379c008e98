"""Compile every kernel that the operations launch, in all tuned configurations, without a GPU.

Usage: compile_kernels.py CAPABILITY, e.g. 90. Prints each kernel and the size of its binary.
"""

import sys

import torch
from cases import mlp_case, pool_case
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmpoolformer.ops.channel_mlp import triton_impl as mlp
from mmpoolformer.ops.channel_mlp.arguments import Options, Parameters
from mmpoolformer.ops.pool_mixer import triton_impl as pool


class AbsentDevice:
    """Answers what Triton asks its driver, for a device that is not there."""

    def __init__(self, capability):
        self.target = GPUTarget('cuda', capability, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_benchmarker(self):
        return lambda launch, quantiles: (launch(), [1.0] * 3)[1]


def compile_only(function, *args, grid, warmup, **kwargs):
    kernel = compile_and_launch(function, *args, grid=grid, warmup=True, **kwargs)
    print(function.fn.__name__, len(kernel.asm['cubin']))


def launch_all(operation, case, *options):
    leaves = [None if v is None else v.requires_grad_(n != 'drop_factor') for n, v in case.items()]
    y = operation(leaves, *options)
    y.backward(torch.ones_like(y))


def launch_pool_mixer(tensors, pool_size):
    return pool.pool_mixer(*tensors, pool_size, 1e-5)


def launch_channel_mlp(tensors, options):
    x, *parameters = tensors
    return mlp.channel_mlp(x, Parameters(*parameters), options, inplace=False)


compile_and_launch, JITFunction.run = JITFunction.run, compile_only
driver.set_active(AbsentDevice(int(sys.argv[1])))
for dtype in (torch.float32, torch.bfloat16):
    launch_all(launch_pool_mixer, pool_case((2, 64, 8, 9), dtype=dtype), 3)
    case = pool_case((1, 3, 7, 5), dtype=dtype, layout='contiguous', parts='')
    launch_all(launch_pool_mixer, case, 5)
    for act, per_position in (('gelu', False), ('star_relu', True)):
        case = mlp_case((2, 64, 8, 9), dtype=dtype, act=act)
        launch_all(launch_channel_mlp, case, Options(act, per_position, 1e-5))
