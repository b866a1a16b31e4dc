"""What each command does: the command line's side of the library. A function a command, by its name."""

from resnet_jax.commands.data import data
from resnet_jax.commands.experiments import experiment, report
from resnet_jax.commands.runs import evaluate, predict, train
from resnet_jax.commands.tables import describe
from resnet_jax.commands.weight_files import weights

__all__ = ['data', 'describe', 'evaluate', 'experiment', 'predict', 'report', 'train', 'weights']
