"""`resnet-jax data show`: pictures of what the network will really see."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.data import colour, mix
from resnet_jax.data.arrays import WHITE
from resnet_jax.data.augment import Normalization, augment, erase, normalize
from resnet_jax.data.batches import Share, TrainingBatches
from resnet_jax.data.order import order, plan
from resnet_jax.data.rand_augment import OPERATIONS, operate
from resnet_jax.data.source import Part
from resnet_jax.data.views import views
from resnet_jax.errors import UserError
from resnet_jax.progress import silent
from resnet_jax.report import figures
from resnet_jax.train.splits import Splits

CELL = 1.5  # inches
STRENGTHS = (0.25, 0.5, 1.0)  # of an operation


class Seen(NamedTuple):
    """Images for a person: values from 0 to 1, (n, h, w, c), and what stands above each."""

    images: np.ndarray
    titles: list[str]


def sheet(config: ConfigDict, splits: Splits, count: int, draws: int) -> Figure:
    """A row for each of `count` training examples: its evaluation view, and `draws` times what training sees of it."""
    columns = [plain(config, splits, count), *augmented(config, splits, count, draws)]
    return _grid(columns, ['evaluation', *(f'training, epoch {draw}' for draw in range(draws))])


def plain(config: ConfigDict, splits: Splits, count: int) -> Seen:
    """The evaluation views of the first examples of step 0, with their labels."""
    images, labels = _first(config, splits, count)
    return Seen(images / _white(config.data), [splits.classes[label] for label in labels])


def augmented(config: ConfigDict, splits: Splits, count: int, draws: int) -> list[Seen]:
    """The same examples as training sees them: in the first epochs, were they alone in their batch. Of a mixed image
    either half may be the larger one."""
    data, normalization = splits.dataset.data, splits.normalization
    made = []
    for draw in range(draws):
        images, labels, places = _batch(config, splits, count, draw)
        key = jax.random.fold_in(jax.random.key(config.seed), draw)
        shown = augment(key, jnp.asarray(images), normalization, data)
        targets = mix.targets(jnp.asarray(labels), spec.outputs(data), config.train.label_smoothing)
        shown, targets = mix.mix(jax.random.fold_in(key, 100), shown, targets, config.train.mixup, config.train.cutmix)
        values = np.asarray(shown) * normalization.deviation + normalization.mean
        values = np.clip(np.asarray(values) * 255 / _white(data), 0, 1)
        titles = [_target(row, splits.classes) for row in np.asarray(targets)]
        back = np.argsort(places)
        made.append(Seen(values[back], [titles[place] for place in back]))
    return made


def operations(config: ConfigDict, splits: Splits) -> Figure:
    """Training examples through every augmentation there is, at three strengths or in three draws."""
    pair = jnp.asarray(np.round(_first(config, splits, 2)[0] * (255 / _white(splits.dataset.data))).astype(np.uint8))
    rows = {**_crops(config, splits), **_changes(jax.random.key(config.seed), pair)}
    half = -(-len(rows) // 2)
    names, images = list(rows), [np.stack(row) for row in rows.values()]
    blank = np.ones_like(images[0])
    names, images = names + [''] * (2 * half - len(rows)), images + [blank] * (2 * half - len(rows))
    columns = [
        Seen(np.stack([row[at] for row in images[block : block + half]]), names[block : block + half])
        for block in (0, half)
        for at in range(3)
    ]
    return _grid(columns, [''] * 6)


def _crops(config: ConfigDict, splits: Splits) -> dict[str, list[np.ndarray]]:
    """Three draws of each crop of the original; none where the images are pixels already."""
    if splits.dataset.data.dataset in spec.PIXELS_ALREADY:
        return {}
    rows = {}
    for crop in ('random_resized', 'random_scale'):
        changed = config.copy_and_resolve_references()
        with changed.unlocked():
            changed.data.crop = crop
        rows[f'crop {crop}'] = [_batch(changed, splits, 1, draw)[0][0] / 255 for draw in range(3)]
    return rows


def _changes(key: Array, pair: Array) -> dict[str, list[np.ndarray]]:
    """What changes the bytes (of the first of two images), and what mixes the two."""
    image, light = pair[0], partial(colour.lighting, key, pair[:1])
    rows: dict[str, list] = {'flip': [image, image[:, ::-1], image]}
    for which, name in enumerate(OPERATIONS[:-1]):
        rows[name] = [operate(image, jnp.int32(which), jnp.float32(share), jnp.float32(1)) for share in STRENGTHS]
    if image.shape[-1] == 3:
        rows['hue'] = [colour.jitter(key, pair[:1], (0.0, 0.0, 0.0, share / 2))[0] for share in STRENGTHS]
        rows['jitter'] = [
            colour.jitter(key, pair[:1], (share, share, share, share / 4))[0] for share in (0.1, 0.2, 0.4)
        ]
        rows['lighting'] = [light(0.4 * share)[0] for share in STRENGTHS]
    scaled, targets = normalize(pair, NOTHING), jnp.eye(2)
    draws = [jax.random.fold_in(key, draw) for draw in range(3)]
    rows['erase'] = [255 * erase(draw, scaled, 1.0)[0] for draw in draws]
    rows['mixup'] = [255 * mix.mix(draw, scaled, targets, 1.0, 0.0)[0][0] for draw in draws]
    rows['cutmix'] = [255 * mix.mix(draw, scaled, targets, 0.0, 1.0)[0][0] for draw in draws]
    return {name: [np.clip(np.asarray(each, np.float32) / 255, 0, 1) for each in row] for name, row in rows.items()}


NOTHING = Normalization(np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32))


def _first(config: ConfigDict, splits: Splits, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Evaluation views and labels of the first examples of step 0."""
    dataset, data, chosen = splits.dataset, splits.dataset.data, _chosen(config, splits, count)
    if data.dataset in spec.PIXELS_ALREADY:
        return dataset.train.images[chosen], dataset.train.labels[chosen]
    some = Part(dataset.source('train'), chosen)
    return views(some, 'train', spec.image_shape(data), data.crop_fraction, 'stop', silent)[:2]


def _chosen(config: ConfigDict, splits: Splits, count: int) -> np.ndarray:
    examples = splits.dataset.count('train')
    if not 1 <= count <= examples:
        raise UserError(f'--examples is {count}; it must be 1 to {examples}, the training examples')
    return order(config.seed, 0, examples)[:count]


def _batch(config: ConfigDict, splits: Splits, count: int, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels of these examples as epoch `draw` of them alone has them, and the order they come in."""
    data, chosen = splits.dataset.data, _chosen(config, splits, count)
    alone = config.copy_and_resolve_references()
    with alone.unlocked():
        alone.train.batch_size, alone.data.repeats = count, 1
        alone.train.phases.update(epochs=(), pixels=(), batch_sizes=())
    height, _, channels = spec.image_shape(data)
    steps = plan(alone, count, height)
    if data.dataset in spec.PIXELS_ALREADY:
        places = steps.batch(draw)
        return splits.dataset.train.images[chosen][places], splits.dataset.train.labels[chosen][places], places
    some = Part(splits.dataset.source('train'), chosen)
    batch = TrainingBatches(some, steps, data, channels, draw + 1, Share(0, 1))[draw]
    if batch.error:
        raise UserError(batch.error)
    return batch.images, batch.labels, steps.batch(draw)


def _target(shares: np.ndarray, classes: Sequence[str]) -> str:
    """A class, or those of a mixed image with their shares; what smoothing adds to all is not said."""
    low = shares.min()
    own = [int(label) for label in np.argsort(-shares)[:2] if shares[label] - low > 0.005]
    if len(own) == 1:
        return classes[own[0]]
    return '\n'.join(f'{shares[label]:.2f} {classes[label]}' for label in own)


def _white(data: ConfigDict) -> int:
    return WHITE.get(data.dataset, 255)


def _grid(columns: list[Seen], heads: list[str]) -> Figure:
    rows = len(columns[0].titles)
    with figures.style():
        drawn = Figure(figsize=(CELL * len(columns), (CELL + 0.3) * rows + 0.3), layout='constrained')
        axes = drawn.subplots(rows, len(columns), squeeze=False)
        for column, (seen, head) in enumerate(zip(columns, heads, strict=True)):
            for row, (image, title) in enumerate(zip(seen.images, seen.titles, strict=True)):
                panel = axes[row, column]
                panel.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap='gray', vmin=0, vmax=1)
                panel.set_axis_off()
                above = f'{head}\n{title}'.strip() if row == 0 else title
                panel.set_title(above, fontsize=7, fontweight='normal', loc='center')
    return drawn
