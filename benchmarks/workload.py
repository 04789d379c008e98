"""A model with its input, ready to be run again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.settings import Candidate, Setting

# A training step goes back from this times the magnitude of each map: the gradient of 0.001 times
# the sum of y |y|. Sums of squares are constant behind a norm, and their gradients just rounding;
# of a mean, float16 would lose the gradients of large maps.
GRADIENT = 2e-3


@dataclass
class Workload:
    """One entry at work.

    Args:
        module: Holds the parameters.
        images: ``(B, 3, H, W)``.
        setting: Mode and types.
        maps: Images to the feature maps that all entries must agree on.
        names: Names of parameters in ``module`` by ours; those left out have the same.
        forward: What an inference iteration computes; by default the maps.
        loss: What a training iteration goes back from; by default a sum over the maps.
    """

    module: nn.Module
    images: Tensor
    setting: Setting
    maps: Callable[[Tensor], Sequence[Tensor]]
    names: Mapping[str, str] = field(default_factory=dict)
    forward: Callable[[], object] | None = None
    loss: Callable[[], Tensor] | None = None

    def iterate(self) -> object:
        """Do what is timed, once."""
        if not self.setting.trains:
            with torch.inference_mode(), self.setting.autocast():
                return self.forward() if self.forward else self.maps(self.images)
        if self.loss is None:
            return self.compute()
        self.release()
        with self.setting.autocast():
            loss = self.loss()
        loss.backward()
        return loss.detach()

    def compute(self) -> list[Tensor]:
        """Return the maps; in training mode, leave their gradients in the parameters, too."""
        if not self.setting.trains:
            with torch.inference_mode(), self.setting.autocast():
                return list(self.maps(self.images))
        self.release()
        with self.setting.autocast():
            maps = self.maps(self.images)
        torch.autograd.backward(maps, [GRADIENT * m.detach().abs() for m in maps])
        return [m.detach() for m in maps]

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients that are there, under our names."""
        ours = {theirs: name for name, theirs in self.names.items()}
        return {
            ours.get(name, name): parameter.grad
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        }

    def release(self) -> None:
        """Free the gradients."""
        self.module.zero_grad(set_to_none=True)

    @property
    def nbytes(self) -> int:
        """Bytes of weights and images."""
        tensors = [*self.module.parameters(), *self.module.buffers(), self.images]
        return sum(t.numel() * t.element_size() for t in tensors)


def random_images(setting: Setting) -> Tensor:
    """Return the images of a setting, the same each time."""
    batch, height, width = setting.shape
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=generator)


def place(module: nn.Module, candidate: Candidate, setting: Setting) -> Tensor:
    """Give a module the device, type, format and mode it is measured in; return its images."""
    layout = torch.channels_last if candidate.channels_last else torch.preserve_format
    module.to(setting.device, setting.weight_dtype, memory_format=layout)
    module.train(setting.trains)  # mmpretrain's returns nothing, so there is no chain here.
    images = random_images(setting).to(setting.device, setting.weight_dtype)
    return images.to(memory_format=layout)


def randomise(module: nn.Module) -> None:
    """Make every parameter count: a branch scaled by 1e-5 would hide what it computes."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if '_scale' in name:
            nn.init.uniform_(parameter, 0.2, 0.8, generator=generator)
        elif 'norm' in name and name.endswith('weight'):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        elif name.endswith('bias'):
            nn.init.normal_(parameter, std=0.1, generator=generator)
        elif parameter.ndim > 1:
            spread = parameter[0].numel() ** -0.5  # Keeps the variance.
            nn.init.normal_(parameter, std=spread, generator=generator)
