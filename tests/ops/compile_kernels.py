"""Compile every kernel that the operations launch, for two kinds of GPU, without a GPU.

Prints the compute capability, the kernel and the size of its binary. Each type meets each memory
format, window, activation and norm, and each of these each GPU. The usual window of 3 is compiled
with every tile that is tuned.
"""

import torch
from cases import mlp_case, pack, pool_case
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmpoolformer.ops.channel_mlp import triton_impl as mlp
from mmpoolformer.ops.channel_mlp.arguments import Options
from mmpoolformer.ops.pool_mixer import triton_impl as pool
from mmpoolformer.ops.pool_mixer import triton_kernels


class AbsentDevice:
    """Answers what Triton asks its driver, for a device that is not there."""

    def __init__(self, capability):
        self.target = GPUTarget('cuda', capability, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return self.target.arch  # Triton keeps compiled kernels by device.

    def get_current_stream(self, device):
        return 0

    def get_benchmarker(self):
        return lambda launch, quantiles: (launch(), [1.0] * 3)[1]


def compile_only(function, *args, grid, warmup, **kwargs):
    kernel = compile_and_launch(function, *args, grid=grid, warmup=True, **kwargs)
    target = driver.active.get_current_target()
    print(target.arch, function.fn.__name__, len(kernel.asm['cubin']))


def launch_all(operation, case, *options):
    leaves = {
        name: None if v is None else v.requires_grad_(name != 'drop_factor')
        for name, v in case.items()
    }
    y = operation(*pack(leaves), *options)
    y.backward(torch.ones_like(y))


compile_and_launch, JITFunction.run = JITFunction.run, compile_only
stencils = triton_kernels.forward_kernel, triton_kernels.backward_kernel
# Configurations of the same tile and number of warps differ only in the rows that they loop over.
configs = {(c.kwargs['tile'], c.num_warps): c for c in stencils[0].configs}
low, high = torch.bfloat16, torch.float32
for capability, first, second in ((80, high, low), (90, low, high)):
    driver.set_active(AbsentDevice(capability))
    for kernel in stencils:
        kernel.configs = list(configs.values())
    launch_all(pool.pool_mixer, pool_case((2, 64, 8, 9), dtype=first), 3, 1e-5)
    for kernel in stencils:
        kernel.configs = kernel.configs[:1]
    case = pool_case((1, 3, 7, 5), dtype=second, layout='contiguous', parts='')
    launch_all(pool.pool_mixer, case, 5, 1e-5)
    for dtype, act, per_position in ((first, 'gelu', False), (second, 'star_relu', True)):
        case = mlp_case((2, 64, 8, 9), dtype=dtype, act=act)
        launch_all(mlp.channel_mlp, case, Options(act, per_position, 1e-5), False)
