"""Our networks against the same written in PyTorch: activations, loss, every gradient, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet

pytestmark = pytest.mark.torch


def randomized(variables):
    """Variables that no symmetry hides: BN's scale, bias and statistics are random too."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    draws = [jax.random.uniform(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, [leaf + 0.1 * draw for leaf, draw in zip(leaves, draws, strict=True)])


@pytest.mark.parametrize(('name', 'pixels'), [('resnet20', 32), ('plain20', 8), ('preact_resnet20', 8)])
def test_values_gradients_and_running_statistics_are_those_of_pytorch(name, pixels):
    torch = pytest.importorskip('torch')
    from benchmarks import peers

    config = default.get_config()
    config.network.update(zoo.settings(name))
    arch = spec.architecture(config)
    with jax.enable_x64(True):
        network = ResNet(arch)
        variables = randomized(network.init_variables(jax.random.key(0), jnp.float64))
        images = jax.random.normal(jax.random.key(1), (6, pixels, pixels, 3), jnp.float64)
        labels = jnp.arange(6, dtype=jnp.int32)

        def objective(params):
            tree = {**variables, 'params': params}
            logits, updates = network.apply(tree, images, train=True, mutable=['batch_stats'])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates['batch_stats']

        evaluated = np.asarray(network.apply(variables, images, train=False))
        (loss, batch_stats), gradients = jax.value_and_grad(objective, has_aux=True)(variables['params'])

    peer = peers.ResNet(arch).double()
    peers.take_variables(peer, arch, variables)
    inputs = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)
    peer.eval()
    np.testing.assert_allclose(evaluated, peer(inputs).detach().numpy(), rtol=1e-9, atol=1e-12)
    peer.train()
    peer_loss = torch.nn.functional.cross_entropy(peer(inputs), torch.tensor(np.asarray(labels)).long())
    peer_loss.backward()
    np.testing.assert_allclose(loss, peer_loss.item(), rtol=1e-10)

    ours = peers.ResNet(arch).double()
    peers.take_variables(ours, arch, {'params': gradients, 'batch_stats': batch_stats})
    for (where, gradient), (_, parameter) in zip(ours.named_parameters(), peer.named_parameters(), strict=True):
        expected = np.asarray(parameter.grad)
        tolerance = 1e-9 * np.abs(expected).max() + 1e-14
        np.testing.assert_allclose(gradient.detach(), expected, rtol=0, atol=tolerance, err_msg=where)
    for (where, buffer), (_, expected) in zip(ours.named_buffers(), peer.named_buffers(), strict=True):
        if 'running' in where:
            np.testing.assert_allclose(buffer, expected, rtol=1e-9, err_msg=where)
