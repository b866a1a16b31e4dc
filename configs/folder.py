"""A folder of your own photographs, CLASS/*.jpg or train/CLASS/*.jpg: fine-tunes an imported network on it.

    ./launch.sh weights import resnet50.safetensors --architecture resnet50 --out runs/imported
    ./launch.sh train --config configs/folder.py --run runs/mine \
        --config.data.data_dir=DIR --config.train.start_from=runs/imported

    ./launch.sh train --config configs/folder.py:scratch,resnet18 --run runs/mine --config.data.data_dir=DIR

The argument names the network (resnet50) that the weights are of; `scratch,NAME` trains NAME from its seed instead.
Fine-tuning (Kornblith et al. 2019, arXiv 1805.08974, tuned rate and decay for each dataset; this is one middling
choice): 20 epochs of SGD with a cosine from 0.01, batches of 32, a fresh head for the folder's classes. From scratch:
100 epochs from 0.1 with the decay of ImageNet's recipes; a few hundred photographs teach it little. What either gives
depends on the photographs: the last line of the run says.

One epoch costs about 0.3 s a photograph on two CPU cores with resnet50 at 224 px, a thirtieth of that with resnet18 at
64 px (--config.data.pixels=64). Look before you train: resnet-jax data stats, resnet-jax data show.
"""

from ml_collections import ConfigDict

from configs import default
from resnet_jax.models import zoo


def get_config(argument: str = 'resnet50') -> ConfigDict:
    scratch, network = argument.startswith('scratch,'), argument.removeprefix('scratch,')
    config = default.get_config()
    config.network.update(zoo.settings(network))
    config.unit = 'epoch'
    config.data.update(dataset='folder', crop='random_resized', crop_fraction=0.875, shift=0, normalize='imagenet')
    config.train.update(batch_size=32, nesterov=True)
    steps, rate = (100, 0.1) if scratch else (20, 0.01)
    config.train.schedule.update(name='cosine', learning_rate=rate, steps=steps, warmup='linear', warmup_steps=1)
    if not scratch:
        config.train.update(start_from='runs/imported', weight_decay=1e-5)
        config.data.crop_area = (0.25, 1.0)  # gentler than ImageNet's 0.08: what is fine-tuned has seen enough
    config.run.update(steps=steps, log_every=10, eval_every=1, save_every=1, eval_batch=64)
    return config
