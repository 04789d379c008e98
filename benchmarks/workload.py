"""What is measured: the entries of a table, what they have in common, and a model at work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

DTYPES = {name: getattr(torch, name) for name in ('float32', 'bfloat16', 'float16')}
# A training step goes back from this times the magnitude of each map. Sums of squares are constant
# behind a norm, so their gradients are just rounding; those of a mean are too small for float16.
_GRADIENT = 2e-3


class Setting(NamedTuple):
    """What all entries of a table have in common."""

    model: str
    shape: tuple[int, int, int]  # Images, height and width in pixels.
    mode: str = 'inference'  # Or 'training', a step of forward and backward pass.
    dtype: str = 'float32'
    amp: bool = False  # Whether weights stay in float32 and autocast brings the other type.
    device: str = 'cpu'
    seconds: float = 7.0  # How long each entry is timed, over all rounds.
    rounds: int = 5
    memory: bool = True  # Whether peak memory is measured.

    @property
    def title(self) -> str:
        shape = 'x'.join(map(str, self.shape))
        dtype = f'autocast to {self.dtype}' if self.amp else self.dtype
        return f'{self.model}, {self.mode}, {shape}, {dtype}, {self.device}'


class Entry(NamedTuple):
    """A row of a table: which code runs the model, and how."""

    source: str  # 'ours' or the package it is from.
    fused: str = ''  # Implementation of our operations.
    channels_last: bool = False  # Whether weights and images have that format from the start.
    compiled: bool = False

    @property
    def name(self) -> str:
        flags = ('channels-last' * self.channels_last, 'compiled' * self.compiled)
        return ' '.join(filter(None, (self.source, self.fused, *flags)))


@dataclass
class Workload:
    """An entry at work, on random images ``(B, 3, H, W)`` that are the same each time."""

    module: nn.Module  # It gets the device, type, format and mode to be measured in.
    entry: Entry
    setting: Setting
    maps: Callable[[Tensor], Sequence[Tensor]]  # All entries must agree on these.
    # What is timed: returns any output or, in training mode, the loss. By default the maps are
    # computed and, in training mode, gone back from.
    step: Callable[[Tensor], object] | None = None
    # Gives a mapping by names of the module our names.
    to_ours: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict

    def __post_init__(self) -> None:
        layout = torch.channels_last if self.entry.channels_last else torch.preserve_format
        device, dtype = self.setting.device, DTYPES[self.setting.dtype]
        kept = torch.float32 if self.setting.amp else dtype
        self.trains = self.setting.mode == 'training'
        self.module.to(device, kept, memory_format=layout)
        self.module.train(self.trains)  # mmpretrain's returns nothing, so there is no chain here.
        batch, height, width = self.setting.shape
        images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
        self.images = images.to(device, kept, memory_format=layout)
        self.autocast = torch.autocast(self.images.device.type, dtype, enabled=self.setting.amp)

    def forward(self, function: Callable[[Tensor], object]):
        """Return what ``function`` makes of the images in the mode and types of the setting."""
        self.module.zero_grad()
        with torch.inference_mode(not self.trains), self.autocast:
            return function(self.images)

    def compute(self) -> list[Tensor]:
        """Return the maps; in training mode, leave their gradients in the parameters, too."""
        maps = self.forward(self.maps)
        if self.trains:
            torch.autograd.backward(maps, [_GRADIENT * m.detach().abs() for m in maps])
        return [m.detach() for m in maps]

    def iterate(self) -> None:
        """Do what is timed, once."""
        output = self.forward(self.step) if self.step else self.compute()
        if self.step and self.trains:
            output.backward()

    @property
    def nbytes(self) -> int:
        """Bytes of weights and images."""
        tensors = [*self.module.parameters(), *self.module.buffers(), self.images]
        return sum(tensor.nbytes for tensor in tensors)


Build = Callable[[Entry, Setting], Workload]


def randomise(module: nn.Module) -> None:
    """Make every parameter count: a branch scaled by 1e-5 would hide what it computes."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)  # Keeps the variance.
        elif parameter.requires_grad:
            nn.init.uniform_(parameter, -1, 1)
