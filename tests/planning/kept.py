"""What `jax.vjp` of a network's training forward pass keeps, without computing it."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

from resnet_jax.models.resnet import ResNet

CALLS = ('jit', 'pjit')


def an_example(arch, dtype='float32', **how):
    """Bytes that grow with each example: neither parameters and what is made of them, nor statistics, nor constants."""
    network = ResNet(arch, **{'scan_from': 10_000} | how)  # a scan keeps the same, in arrays of all its blocks
    return _of(network, 3, dtype) - _of(network, 2, dtype)


def _of(network, examples, dtype):
    variables = jax.eval_shape(partial(network.init_variables, dtype=dtype), jax.random.key(0))
    images = jax.ShapeDtypeStruct((examples, *network.arch.image_shape), jnp.dtype(dtype))

    def kept(images, key, params, rest):
        def forward(params):
            variables = {'params': params, **rest}
            return network.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})

        return jax.tree.leaves(jax.vjp(forward, params, has_aux=True)[1])

    rest = {'batch_stats': variables['batch_stats']}
    jaxpr = jax.make_jaxpr(kept)(images, jax.random.key(0), variables['params'], rest).jaxpr
    varying = _varying(jaxpr, [number < 2 for number in range(len(jaxpr.invars))])
    # BN keeps another shape of the same numbers.
    same = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name == 'reshape':
            same[equation.outvars[0]] = same.get(equation.invars[0], equation.invars[0])
    found = {same.get(each, each) for each in jaxpr.outvars if not isinstance(each, Literal) and each in varying}
    return sum(each.aval.size * each.aval.dtype.itemsize for each in found)


def _varying(jaxpr: Jaxpr, inputs):
    """The values of a program that depend on those of its inputs for which it is asked."""
    found = {each for each, asked in zip(jaxpr.invars, inputs, strict=True) if asked}
    for equation in jaxpr.eqns:
        asked = [not isinstance(each, Literal) and each in found for each in equation.invars]
        if equation.primitive.name in CALLS:
            inner = equation.params['jaxpr'].jaxpr
            within = _varying(inner, asked)
            both = zip(equation.outvars, inner.outvars, strict=True)
            found |= {outer for outer, own in both if not isinstance(own, Literal) and own in within}
        elif any(asked):
            found |= set(equation.outvars)
    return found
