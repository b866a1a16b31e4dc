"""Pre-activation ResNet-110 on scikit-learn's handwritten digits (8x8 px): the main job, no download.

    ./launch.sh train --config configs/digits.py --run runs/digits --then lesion:beyond=False

Recipe: pad-1 crops, SGD with Nesterov momentum, cosine to 0 after a linear warm-up, 30 epochs of 11 steps.
Argument: a network's name, `configs/digits.py:plain20`. Costs about a minute on two CPU cores.
Expected: 1 to 2 % test error; deleting any one block apart from the three entry blocks changes it by less than
a point (Veit et al. 2016, arXiv 1605.06431, Figure 3, on other data).
"""

from ml_collections import ConfigDict

from configs import default
from resnet_jax.models import zoo


def get_config(network: str = 'preact_resnet110') -> ConfigDict:
    config = default.get_config()
    config.network.update(zoo.settings(network))
    config.data.update(dataset='digits', normalize='channel', shift=1, flip=False)
    config.train.nesterov = True
    steps = 330
    config.train.schedule.update(name='cosine', steps=steps, warmup='linear', warmup_steps=33)
    config.run.update(steps=steps, log_every=11, eval_every=33, save_every=110, eval_batch=360)
    return config
