"""What kernels start at."""

import jax
import numpy as np
import pytest
from flax.linen.linear import default_kernel_init

from resnet_jax.models.initializers import he_normal, lecun_normal


def test_weights_have_the_deviation_of_he_et_al():
    kernel = np.asarray(he_normal(jax.random.key(0), (3, 3, 64, 128)))
    deviation = np.sqrt(2 / (9 * 128))  # outputs, not inputs
    few = 4 / np.sqrt(kernel.size)  # four standard errors
    assert abs(kernel.mean()) < few * deviation
    assert abs(kernel.std() / deviation - 1) < few / np.sqrt(2)
    assert kernel.dtype == np.float32


@pytest.mark.parametrize(('shape', 'dtype'), [((64, 10), 'float32'), ((7, 3), 'bfloat16')])
def test_a_dense_layer_starts_as_flaxs(shape, dtype):
    key = jax.random.key(3)
    np.testing.assert_array_equal(lecun_normal(key, shape, dtype), default_kernel_init(key, shape, dtype))
