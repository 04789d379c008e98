"""From a described folder of pictures to a config of one's own: what to train, and how long."""

from mmpoolformer.finetuning.config_writing import config_text
from mmpoolformer.finetuning.places import Places, shown
from mmpoolformer.finetuning.recipe import METHODS, Choice, Recipe, Wishes, choose

__all__ = ['METHODS', 'Choice', 'Places', 'Recipe', 'Wishes', 'choose', 'config_text', 'shown']
