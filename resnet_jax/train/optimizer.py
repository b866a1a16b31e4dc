"""SGD as in the papers: momentum on the gradient of loss plus decay, times the learning rate."""

import jax
import optax
from ml_collections import ConfigDict

from resnet_jax.train.schedule import learning_rate


def sgd(train: ConfigDict) -> optax.GradientTransformation:
    """g <- g + decay * p;  m <- momentum * m + g;  p <- p - rate * m  (torch's SGD; Nesterov: g + momentum * m)."""
    mask = None if train.decay_norm_and_bias else is_kernel
    return optax.chain(
        optax.add_decayed_weights(train.weight_decay, mask),
        optax.sgd(learning_rate(train.schedule), momentum=train.momentum, nesterov=train.nesterov),
    )


def is_kernel(params: dict) -> dict:
    """True for the kernels of convolutions and dense layers, False for BN's scale and every bias."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)
