"""The measurement of the paths experiment: norms of gradients by length, and test errors."""

from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from resnet_jax.analysis import paths
from resnet_jax.analysis.recalibration import can_recalibrate, recalibrated
from resnet_jax.models.gates import Gates
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array
from resnet_jax.run import Run
from resnet_jax.train.evaluate import evaluate


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """The test errors; and by length the norms along random paths, and of the sums of all paths."""
    found = measure_beside(run, config, progress)
    return found | _along_random_paths(run, config, progress) | _summed(run, config)


def measure_beside(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """The test error; of a network with paths also what it is otherwise."""
    error = {'test_error': _percent(run.evaluate('test').error)}
    return error | (_other_errors(run, config) if paths.there(run.network.arch) else {})


def _percent(value: float) -> Array:
    return Array(np.array(value), (), '%')


def _other_errors(run: Run, config: ConfigDict) -> dict[str, Array]:
    """Of the whole network with BN statistics taken anew (NaN where it cannot be), and with every branch weighted by
    the share of the batches that it was trained in (Huang et al. 2016, arXiv 1603.09382, section 3)."""
    network, gates = run.network, run.network.intact_gates()

    def error(variables: dict, gates: Gates) -> Array:
        return _percent(
            evaluate(network, variables, run.dataset.test, run.normalization, batch=run.config.run.eval_batch,
                     gates=gates).error
        )  # fmt: skip

    share = (run.config.train.active_blocks or network.arch.blocks) / network.arch.blocks
    fresh = _percent(np.nan)
    if can_recalibrate(network.arch):
        images, size = run.examples('train', config.recalibration)[0], run.config.train.batch_size
        batches = [images[start : start + size] for start in range(0, len(images) - size + 1, size)]
        fresh = error(recalibrated(network, run.variables, batches, gates), gates)
    weighted = gates._replace(residual=share * gates.residual)
    return {'test_error_fresh': fresh, 'test_error_weighted': error(run.variables, weighted)}


def _along_random_paths(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Each example takes one path of every length."""
    rng, blocks = np.random.default_rng(config.seed), run.network.arch.blocks
    chunks, parts = list(_chunks(run, config.examples, config.batch)), []
    for number, (images, labels) in enumerate(chunks, start=1):
        by_length = []
        for length in range(blocks + 1):
            drawn = paths.random_paths(rng, blocks, length, len(labels))
            by_length.append(paths.path_norms(run.network, run.variables, images, labels, drawn))
        parts.append(paths.Gradients(*map(np.stack, zip(*by_length, strict=True))))
        progress('following paths', number, len(chunks))
    return _named('path_norm', parts, 'example')


def _summed(run: Run, config: ConfigDict) -> dict[str, Array]:
    parts, missed = [], []
    for images, labels in _chunks(run, config.summed, config.batch):
        norms, miss = paths.sum_norms(run.network, run.variables, images, labels)
        parts.append(norms)
        missed.append(miss)
    rounding = Array(np.concatenate(missed), ('summed_example',), 'of the gradient')
    return {**_named('sum_norm', parts, 'summed_example'), 'rounding': rounding}


def _chunks(run: Run, count: int, batch: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    images, labels = run.examples('train', count)
    for start in range(0, len(labels), batch):
        yield images[start : start + batch], labels[start : start + batch]


def _named(kind: str, parts: list[paths.Gradients], examples: str) -> dict[str, Array]:
    """Parts (lengths, n) side by side, as <kind>_first_block and <kind>_image."""
    return {
        f'{kind}_{place}': Array(np.concatenate(chunks, axis=1), ('length', examples), 'nats per unit of input')
        for place, chunks in zip(paths.Gradients._fields, zip(*parts, strict=True), strict=True)
    }
