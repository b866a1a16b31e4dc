import jax
import numpy as np

from resnet_jax.analysis import mean_field


def test_wide_random_layers_grow_as_said():
    growths = mean_field.growth(jax.random.key(0), width=512, layers=48, first=2.0, second=0.5)
    for growth in growths:
        assert growth.shape == (48,)
        error = np.std(growth) / np.sqrt(48)
        assert abs(np.mean(growth) - 1.5) < 4 * error < 0.1


def test_a_narrow_layer_written_out_grows_as_measured():
    """Width 3, a layer: the growth is that of the layer's own weights."""
    forward, back = mean_field.growth(jax.random.key(3), width=3, layers=1, first=2.0, second=3.0)
    key, key_x, key_g = jax.random.split(jax.random.key(3), 3)
    key_w, key_v = jax.random.split(jax.random.split(key, 1)[0])
    w = np.asarray(jax.random.normal(key_w, (3, 3))) * np.sqrt(2 / 3)
    v = np.asarray(jax.random.normal(key_v, (3, 3))) * np.sqrt(3 / 3)
    x, g = (np.asarray(jax.random.normal(each, (3,))) for each in (key_x, key_g))
    matrix = np.eye(3) + v @ np.diag(w @ x > 0) @ w
    np.testing.assert_allclose(forward[0], np.sum((matrix @ x) ** 2) / np.sum(x**2), rtol=1e-5)
    np.testing.assert_allclose(back[0], np.sum((matrix.T @ g) ** 2) / np.sum(g**2), rtol=1e-5)
