"""Evaluation counts every example once, whatever the batch, and is the network's own loss and error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data.augment import normalize
from resnet_jax.train.evaluate import evaluate

COUNT = 359  # a prime: no batch divides it


@pytest.fixture(scope='module')
def network_and_variables(make_network):
    return make_network('float32', placement='original', stage_blocks=(1, 1, 1))


@pytest.fixture(scope='module')
def logits(parts, network_and_variables):
    """Of the whole test split at once."""
    network, variables = network_and_variables
    images = normalize(parts.splits.test.images, parts.splits.normalization)
    return np.asarray(network.apply(variables, images, train=False), np.float64)


@pytest.mark.parametrize('batch', [30, 100, COUNT, 5000])
def test_counts_and_loss_are_those_of_the_whole_split_at_once(parts, network_and_variables, logits, batch):
    result = evaluate(*network_and_variables, parts.splits.test, parts.splits.normalization, batch=batch)
    labels = np.asarray(parts.splits.test.labels)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(COUNT), labels]
    assert result.examples == COUNT
    assert result.correct == (logits.argmax(axis=1) == labels).sum() > 0
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert result.error == pytest.approx(100 * (logits.argmax(axis=1) != labels).mean())


@pytest.mark.parametrize('batch', [100, 5000])
def test_the_padding_of_the_last_batch_counts_for_nothing(parts, network_and_variables, logits, batch):
    """Every label as the network says: were padding counted, more would be right than there are."""
    examples = parts.splits.test._replace(labels=jnp.asarray(logits.argmax(axis=1), jnp.int32))
    result = evaluate(*network_and_variables, examples, parts.splits.normalization, batch=batch)
    assert (result.correct, result.examples, result.error) == (COUNT, COUNT, 0)


def test_gates_are_applied(parts, network_and_variables):
    """Against the network with a kernel of 0 in the branch that the gate closes."""
    network, variables = network_and_variables
    gates = network.intact_gates()
    closed = gates._replace(residual=gates.residual.at[0].set(0))
    lesioned = evaluate(network, variables, parts.splits.test, parts.splits.normalization, batch=100, gates=closed)
    entry = variables['params']['stage1']['entry']
    zeroed = entry | {'bn2': jax.tree.map(jnp.zeros_like, entry['bn2'])}
    params = variables['params'] | {'stage1': variables['params']['stage1'] | {'entry': zeroed}}
    by_hand = evaluate(
        network, variables | {'params': params}, parts.splits.test, parts.splits.normalization, batch=100
    )
    intact = evaluate(network, variables, parts.splits.test, parts.splits.normalization, batch=100)
    assert lesioned.loss == pytest.approx(by_hand.loss, rel=1e-6) and lesioned.correct == by_hand.correct
    assert abs(lesioned.loss - intact.loss) > 1e-3
