"""Evaluation by the mean of what a network says of several views of each image."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data.augment import Normalization, normalize
from resnet_jax.data.decode import opened, upright
from resnet_jax.data.source import Example, Source, Unreadable, chunks
from resnet_jax.data.threads import parallel
from resnet_jax.data.view import many_scales, ten_crops
from resnet_jax.data.views import check_any, unreadable
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.progress import Progress
from resnet_jax.train.evaluate import Evaluation

VIEWS: dict[str, Callable] = {'ten_crop': ten_crops, 'multi_scale': many_scales}
AT_ONCE = 64  # examples whose views are in memory together
TOGETHER = 4  # examples that pass through the network together


def evaluate_views(
    network: ResNet,
    variables: dict,
    source: Source,
    normalization: Normalization,
    *,
    data: ConfigDict,
    views: str,
    progress: Progress,
) -> Evaluation:
    """Loss and correct classifications by the mean of the probabilities of each example's views.

    Args:
      views: ten_crop, or multi_scale, which takes a network that ends in a global pool.

    Raises:
      UserError: an image cannot be read, or the network takes images of one size alone.
    """
    arch = network.arch
    if views == 'multi_scale' and (arch.pool == 'flatten' or normalization.mean.shape[0] > 1):
        raise UserError('multi_scale shows images of several sizes, and this network takes one alone (network.pool '
                        'flatten, or data.normalize pixel_mean); use ten_crop')  # fmt: skip
    make = partial(_views, VIEWS[views], arch.image_shape, data.crop_fraction)
    apply = partial(_sums, network, variables, normalization)
    loss, correct, count = 0.0, 0, 0
    for indices in chunks(len(source), AT_ONCE):
        labels, stacks = [], []
        for index, each in zip(indices, parallel(make, source.read(indices)), strict=True):
            if isinstance(each, Unreadable):
                unreadable(source, index, each, data.corrupt)
                continue
            stacks.append(each[0])
            labels.append(each[1])
        mean = _means(apply, stacks, arch.classes)
        own = mean[np.arange(len(labels)), labels]
        loss -= float(np.log(np.maximum(own, np.finfo(np.float32).tiny)).sum())
        correct += int((mean.argmax(axis=1) == labels).sum())
        count += len(labels)
        progress(f'evaluating, {views}', indices.stop, len(source))
    check_any(count, len(source))
    return Evaluation(loss / count, correct, count)


def _views(make: Callable, shape: tuple, crop_fraction: float, example: Example | Unreadable):
    """(arrays (views, h, w, c), label), or why the image cannot be had."""
    if isinstance(example, Unreadable):
        return example
    try:
        with opened(example[0]) as image:
            return make(upright(image), shape, crop_fraction), example[1]
    except ValueError as error:
        return Unreadable(str(error))


def _means(apply: Callable, stacks: list[list[np.ndarray]], classes: int) -> np.ndarray:
    """The mean probabilities (n, classes) of the views of each example; views of one shape go through together."""
    totals, counts = np.zeros((len(stacks), classes)), np.zeros(len(stacks))
    by_shape: dict[tuple, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for example, arrays in enumerate(stacks):
        for views in arrays:
            by_shape[views.shape].append((example, views))
            counts[example] += len(views)
    for found in by_shape.values():
        for part in chunks(len(found), TOGETHER):
            some = found[part.start : part.stop]
            filled = some + some[-1:] * (TOGETHER - len(some))  # one program a shape
            sums = np.asarray(apply(jnp.asarray(np.stack([views for _, views in filled]))))
            for (example, _), values in zip(some, sums, strict=False):
                totals[example] += values
    return totals / counts[:, None]


@partial(jax.jit, static_argnames='network')
def _sums(network, variables, normalization, images):
    """Of each example's views (n, views, h, w, c): the sum of their probabilities (n, classes)."""
    flat = images.reshape(-1, *images.shape[2:])
    logits = network.apply(variables, normalize(flat, normalization), train=False)
    return jax.nn.softmax(logits).reshape(*images.shape[:2], -1).sum(axis=1)
