"""What the configs of all methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from mmpoolformer.finetuning.code import Name, assignment
from mmpoolformer.finetuning.places import Places, base_of, relative, shown
from mmpoolformer.finetuning.recipe import METHODS, Recipe
from mmpoolformer.models.families import FAMILIES
from mmpoolformer.zoo.archs import ARCHS

_VALIDATIONS = 12  # Of a training: as often as the recipe's 12 epochs.
NORM = {'norm_cfg': Name('norm_cfg')}


class ConfigWriter(ABC):
    """Writes a config: its base, and what differs.

    Args:
        recipe: What was chosen.
        classes: Names of the classes.
        places: Where things are.
    """

    def __init__(self, recipe: Recipe, classes: Sequence[str], places: Places) -> None:
        self.recipe, self.classes, self.places = recipe, tuple(classes), places
        self.from_scratch = recipe.weights is None
        self.steps = recipe.epochs * recipe.steps
        self.base, self.base_is_own = base_of(recipe, places.configs)

    @abstractmethod
    def model(self) -> list[str]:
        """Return the lines of the model."""

    @abstractmethod
    def pipelines(self) -> list[str]:
        """Return the lines of the pipelines."""

    @abstractmethod
    def dataset(self, split: str) -> dict[str, Any]:
        """Return what differs in the data set of a split."""

    @abstractmethod
    def schedule(self) -> list[str]:
        """Return the lines of loop, optimiser and learning rate."""

    @abstractmethod
    def evaluators(self) -> list[str]:
        """Return the lines of the evaluators, if anything differs in them."""

    def text(self) -> str:
        """Return the config."""
        title = f'# {METHODS[self.recipe.method].title} on {self.recipe.model} for the '
        title += f'{len(self.classes)} classes of {shown(self.places.pictures)}.'
        lines = [
            title,
            assignment('_base_', relative(self.base, self.places.config.parent)),
            assignment('pictures', f'{shown(self.places.pictures)}/'),
            assignment('annotations', f'{shown(self.places.annotations)}/'),
            assignment('metainfo', {'classes': self.classes}),
            *self.model(),
            *self.pipelines(),
            *self.loaders(),
            *self.evaluators(),
            *self.schedule(),
            assignment('default_hooks', self.hooks()),
            assignment('randomness', {'seed': self.recipe.seed}),
        ]
        return '\n'.join(lines) + '\n'

    def why(self, choice: str, prefix: str = '') -> str:
        """Return the reason of a choice as a comment."""
        text = f'{prefix}{self.recipe.why(choice)}.'
        return f'# {text[0].upper()}{text[1:]}'

    def backbone(self) -> dict[str, Any]:
        """Return what differs in the backbone."""
        family, size = self.recipe.model.split('_')
        backbone: dict[str, Any] = {}
        if not self.base_is_own:
            backbone = {'type': f'mmpoolformer.{FAMILIES[family].__name__}', 'arch': size}
        if self.from_scratch:
            return backbone | {'init_cfg': None}
        if not self.base_is_own or self.recipe.weights != f'metaformer://{self.recipe.model}':
            backbone['init_cfg'] = {'checkpoint': self.recipe.weights}
        return backbone

    def neck(self, first_stage: int) -> dict[str, Any]:
        """Return what differs in the feature pyramid, which takes the maps from this stage on."""
        if self.base_is_own:
            return {}
        return {'in_channels': list(ARCHS[self.recipe.model].dims[first_stage:])}

    def pipeline_of(self, split: str) -> dict[str, Any]:
        """Return the entry of a data set that names its pipeline."""
        return {'pipeline': Name('train_pipeline' if split == 'train' else 'test_pipeline')}

    def loaders(self) -> list[str]:
        """Return the lines of the loaders; 'test' is 'val' where there is no such split."""
        training = {'batch_size': self.recipe.batch_size, 'dataset': self.dataset('train')}
        lines = [
            assignment('train_dataloader', training),
            assignment('val_dataloader', {'dataset': self.dataset('val')}),
        ]
        if 'test' in self.places.splits:
            return [*lines, assignment('test_dataloader', {'dataset': self.dataset('test')})]
        return [*lines, 'test_dataloader = val_dataloader']

    def optimizer(self, options: dict[str, Any]) -> list[str]:
        """Return the lines of the optimiser, and for which batch its learning rate is."""
        wrapper = {'optimizer': options | {'lr': self.recipe.lr}}
        if self.from_scratch:
            wrapper['clip_grad'] = {'max_norm': 10}
        return [
            self.why('learning rate'),
            assignment('optim_wrapper', wrapper),
            assignment('auto_scale_lr', {'base_batch_size': self.recipe.batch_size}),
        ]

    def warm_up(self) -> dict[str, Any]:
        """Return the recipe's warm-up, shortened for short trainings."""
        steps = min(500, max(1, self.steps // 10))
        ramp = {'type': 'LinearLR', 'start_factor': 0.001, 'by_epoch': False}
        return ramp | {'begin': 0, 'end': steps}

    def interval(self) -> int:
        """Return after how many epochs it is validated and saved."""
        return max(1, self.recipe.epochs // _VALIDATIONS)

    def interval_in_steps(self) -> int:
        """Return the same in steps."""
        return max(1, self.steps // _VALIDATIONS)

    def hooks(self) -> dict[str, Any]:
        """Return what differs in logging and saving."""
        return {
            'logger': {'interval': max(10, min(50, self.steps // 40))},
            'checkpoint': {'interval': self.interval(), 'max_keep_ckpts': 2},
        }


def without_empty(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the parts in which something differs."""
    return {key: value for key, value in parts.items() if value}
