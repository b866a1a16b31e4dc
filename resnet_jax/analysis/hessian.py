"""The Hessian's spectrum without the Hessian: products with vectors, and the Lanczos method.

The Hessian is that of the mean cross-entropy in evaluation by all parameters. Lanczos (1950) brings a symmetric matrix
to tridiagonal form on the space that its powers make of a start vector; the extreme eigenvalues of the small matrix
are soon those of the large one. Each of its eigenvalues has a weight, the square of its eigenvector's first entry:
over random start vectors they are a quadrature of the density of all eigenvalues (stochastic Lanczos quadrature:
Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. Appl. 38; of networks: Ghorbani et al. 2019, arXiv 1901.10159).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from resnet_jax.analysis.landscape import chunks, loss
from resnet_jax.models.resnet import ResNet


def product(
    value: Callable[[Array, Any], Array], theta: Float[Array, ' size'], parts: Any
) -> Callable[[Array], Float[Array, ' size']]:
    """v -> H v, with H the Hessian by θ of the mean of value(θ, part) over parts.

    Reverse over reverse: the convolutions have no forward mode on the CPU (`models/convolve.py`).

    Args:
      parts: arrays with a leading axis of parts, of which one at a time is computed.
    """

    def multiply(vector: Array) -> Array:
        def of_part(part: Any) -> Array:
            return jax.grad(lambda theta: jnp.vdot(jax.grad(value)(theta, part), vector))(theta)

        total, _ = jax.lax.scan(lambda total, part: (total + of_part(part), None), jnp.zeros_like(vector), parts)
        return total / len(jax.tree.leaves(parts)[0])

    return multiply


def lanczos(
    multiply: Callable[[Array], Array], start: Float[Array, ' size'], steps: int | Int[Array, ''], *, room: int
) -> tuple[Float[Array, ' room'], Float[Array, ' room']]:
    """The tridiagonal matrix of so many steps: its diagonal, and what stands beside it.

    Every vector is made orthogonal to all before it, twice. Where the space is exhausted, what follows is 0 or hangs on
    by a rounding error alone: it has no weight (`ritz`).

    Args:
      steps: at most `room`; may be traced.

    Returns:
      diagonal; beside, whose entry i couples rows i and i + 1 (that of the last step leads out of the matrix).
    """
    basis = jnp.zeros((room + 1, len(start)), start.dtype).at[0].set(start / jnp.linalg.norm(start))
    zeros = jnp.zeros(room, start.dtype)

    def step(index, state):
        basis, diagonal, beside = state
        vector = multiply(basis[index])
        diagonal = diagonal.at[index].set(jnp.vdot(basis[index], vector))
        for _ in range(2):
            vector -= (basis @ vector) @ basis  # rows to come are 0
        norm = jnp.linalg.norm(vector)
        following = jnp.where(norm > 0, vector / norm, jnp.zeros_like(vector))
        return basis.at[index + 1].set(following), diagonal, beside.at[index].set(norm)

    _, diagonal, beside = jax.lax.fori_loop(0, steps, step, (basis, zeros, zeros))
    return diagonal, beside


def spectrum(
    network: ResNet,
    variables: dict,
    images: Float[Array, 'n h w c'],
    labels: Int[Array, ' n'],
    key: Array,
    *,
    steps: int,
    room: int,
    batch: int,
) -> tuple[Float[np.ndarray, ' steps'], Float[np.ndarray, ' steps']]:
    """Eigenvalues of a network's Hessian and their weights, as `ritz` has them, from the normal start vector of a key.

    Args:
      steps: of the Lanczos method; one program for any number up to `room`.
      batch: images at a time, a divisor of their number.
    """
    found = _tridiagonal(network, variables, images, labels, key, jnp.int32(steps), room=room, batch=batch)
    diagonal, beside = jax.device_get(found)
    return ritz(diagonal[:steps], beside[:steps])


@partial(jax.jit, static_argnames=('network', 'room', 'batch'))
def _tridiagonal(network, variables, images, labels, key, steps, *, room: int, batch: int):
    theta, unravel = ravel_pytree(variables['params'])

    def value(theta: Array, part: tuple[Array, Array]) -> Array:
        return loss(network, {**variables, 'params': unravel(theta)}, *part)

    start = jax.random.normal(key, theta.shape, theta.dtype)
    return lanczos(product(value, theta, chunks(images, labels, batch)), start, steps, room=room)


def ritz(
    diagonal: Float[np.ndarray, ' steps'], beside: Float[np.ndarray, ' steps']
) -> tuple[Float[np.ndarray, ' steps'], Float[np.ndarray, ' steps']]:
    """Eigenvalues of the tridiagonal matrix, rising, and their weights, which add up to 1.

    NaN, with weight 0, is an eigenvalue that the start vector has no part in; all are, where the matrix is not finite.
    """
    diagonal, beside = diagonal.astype(np.float64), beside[:-1].astype(np.float64)
    if not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
        return np.full(len(diagonal), np.nan), np.zeros(len(diagonal))
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    weights = np.square(vectors[0])
    return np.where(weights > 0, values, np.nan), weights


def share_near_zero(
    values: Float[np.ndarray, 'draws steps'], weights: Float[np.ndarray, 'draws steps'], width: float
) -> float:
    """The share of all eigenvalues that are at most `width` times the largest in size; NaN where nothing is known.

    Args:
      values, weights: `ritz`, a row a start vector.
    """
    largest = np.fmax.reduce(np.abs(values), axis=None)
    return float(np.mean(np.sum(weights * (np.abs(values) <= width * largest), axis=1))) if largest >= 0 else np.nan
