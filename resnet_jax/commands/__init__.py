"""What each command does: the command line's side of the library. A function a command, by its name."""

from resnet_jax.commands.data import data
from resnet_jax.commands.describe import describe
from resnet_jax.commands.experiments import experiment, report
from resnet_jax.commands.plan import plan
from resnet_jax.commands.runs import evaluate, predict, together, train
from resnet_jax.commands.sweeps import sweep
from resnet_jax.commands.weight_files import weights

__all__ = [
    'data', 'describe', 'evaluate', 'experiment', 'plan', 'predict', 'report', 'sweep', 'together', 'train', 'weights',
]  # fmt: skip
