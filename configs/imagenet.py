"""ImageNet (ILSVRC 2012) by four recipes. The argument names the recipe, the network, or both with a comma between.

    ./launch.sh train --config configs/imagenet.py:goyal2017 --run runs/resnet50
    ./launch.sh train --config configs/imagenet.py:bag_of_tricks,resnet101d --run runs/resnet101d

| recipe          | paper                                              | network   | epochs | top-1 error there, % |
|-----------------|----------------------------------------------------|-----------|--------|----------------------|
| he2015          | He et al. 2015, arXiv 1512.03385, section 3.4      | resnet50_v1 | 120 | ten crops: 22.85     |
| goyal2017       | Goyal et al. 2017, arXiv 1706.02677, section 5     | resnet50  | 90     | 23.60 (batch 256)    |
| bag_of_tricks   | He T. et al. 2018, arXiv 1812.01187, tables 2, 6   | resnet50d | 200    | 20.85                |
| strikes_back_a2 | Wightman et al. 2021, arXiv 2110.00476, table 2    | resnet50  | 300    | 20.2                 |

A network's name alone, any of `resnet-jax describe`, is trained by goyal2017. There and in bag_of_tricks the rate is
that of 256 images and follows the batch: with --config.train.batch_size=1024 it is four times as high. The two others
name no rule: with another batch set the rate too, or --config.train.schedule.scaling and scaling_batch.

None of it has been trained here: the whole set takes days on one accelerator and years on two CPU cores. 90 epochs of
ResNet-50 are 1.4e18 multiply-adds: about 15 hours of one GPU at 2,000 images a second. The images are a TFDS copy:
`resnet-jax data list` says how to make one. On fewer images, a sample say, epochs are shorter and the rest is the same.
"""

from ml_collections import ConfigDict

from configs import default
from resnet_jax.errors import UserError
from resnet_jax.models import zoo

NETWORKS = {
    'he2015': 'resnet50_v1',
    'goyal2017': 'resnet50',
    'bag_of_tricks': 'resnet50d',
    'strikes_back_a2': 'resnet50',
}
KERNELS_ALONE = {'undecayed': ('bias', 'scale', 'gain', 'value')}  # decay, in any network
BATCH_OF_256 = {'scaling': 'linear', 'scaling_batch': 256}  # that the rate is of


def get_config(argument: str = 'goyal2017') -> ConfigDict:
    first, _, second = argument.partition(',')
    if second and first not in NETWORKS:
        raise UserError(f'configs/imagenet.py:{argument}: the recipe comes first, one of {", ".join(NETWORKS)}')
    recipe, network = (first, second or NETWORKS[first]) if first in NETWORKS else ('goyal2017', first)
    config = default.get_config()
    config.network.update(zoo.settings(network))
    config.unit = 'epoch'
    config.data.update(dataset='imagenet2012', pixels=224, crop_fraction=0.875, shift=0, crop='random_resized')
    config.run.update(eval_every=1, save_every=1, keep=2, eval_batch=256)
    {'he2015': _he2015, 'goyal2017': _goyal2017, 'bag_of_tricks': _bag_of_tricks, 'strikes_back_a2': _a2}[recipe](
        config
    )
    config.run.steps = config.train.schedule.steps
    return config


def _he2015(config: ConfigDict) -> None:
    """Batches of 256, the rate divided by 10 "when the error plateaus", up to 600,000 steps: taken as thirds of 120
    epochs. The shorter side is drawn from 256 to 480, the pixels' means are subtracted, colours as in AlexNet."""
    config.data.update(crop='random_scale', normalize='pixel_mean', lighting=0.1)
    config.train.batch_size = 256
    config.train.schedule.update(learning_rate=0.1, boundaries=(40, 80), steps=120)


def _goyal2017(config: ConfigDict) -> None:
    """Batches of 256 as in its table 1; the rate is 0.1 · batch / 256, larger ones start with five epochs of warm-up:
    --config.train.schedule.warmup=linear (which starts from 0, the paper's from 0.1). γ of each block's last BN starts
    at 0; BN's parameters are not decayed. The last layer starts as all do here, not from N(0, 0.01)."""
    _zero_gamma(config)
    config.data.normalize = 'imagenet'
    config.train.update(batch_size=256, nesterov=True, **KERNELS_ALONE)
    config.train.schedule.update(learning_rate=0.1, boundaries=(30, 60, 80), steps=90, warmup_steps=5, **BATCH_OF_256)


def _bag_of_tricks(config: ConfigDict) -> None:
    """Batches of 1,024 at 0.1 · batch / 256, a cosine, smoothed labels and mixup, with which it goes on for 200 epochs
    instead of 120. Of colours, brightness, contrast and saturation change, as in GluonCV; the paper names hue in place
    of contrast."""
    _zero_gamma(config)
    config.data.update(normalize='imagenet', jitter=(0.4, 0.4, 0.4, 0.0), lighting=0.1)
    config.train.update(batch_size=1024, nesterov=True, label_smoothing=0.1, mixup=0.2, **KERNELS_ALONE)
    config.train.schedule.update(
        name='cosine', learning_rate=0.1, steps=200, warmup='linear', warmup_steps=5, **BATCH_OF_256
    )  # fmt: skip


def _a2(config: ConfigDict) -> None:
    """LAMB and binary cross-entropy in batches of 2,048. RandAugment here has torchvision's operations, where theirs
    has timm's: near, not the same."""
    _zero_gamma(config)
    config.network.survival = 0.95
    config.data.update(
        normalize='imagenet', crop_fraction=0.95, repeats=3, rand_augment=2, rand_augment_magnitude=0.7,
        rand_augment_deviation=0.05,
    )  # fmt: skip
    config.train.update(
        batch_size=2048, optimizer='lamb', weight_decay=0.02, clip_norm=1.0, loss='sigmoid', mixup=0.1, cutmix=1.0,
        **KERNELS_ALONE,
    )  # fmt: skip
    config.train.schedule.update(name='cosine', learning_rate=5e-3, steps=300, warmup='linear', warmup_steps=5)


def _zero_gamma(config: ConfigDict) -> None:
    """Where every branch ends with BN, and a shortcut passes the rest; other networks start as they do."""
    network = config.network
    ends_with_bn = (
        network.placement == 'original' and network.norm == 'batch' and network.block in ('basic', 'bottleneck')
    )
    if ends_with_bn and network.shortcut != 'none' and network.gain == 'none':
        network.gain = 'zero_gamma'
