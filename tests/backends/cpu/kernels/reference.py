"""The layer as plain NumPy loops in float64, and the bodies the tests run."""

import jax.numpy as jnp
import numpy as np


def plan_reference(ids, experts):
    """Kept flat rows of every expert, in flat order."""
    flat = ids.reshape(-1)
    return [np.flatnonzero(flat == e) for e in range(experts)]


def capacity_reference(ids, experts, capacity, groups, priority):
    out = np.full_like(ids, -1)
    tokens, choices = ids.shape
    size = tokens // groups
    for g in range(groups):
        taken = np.zeros(experts, int)
        span = range(g * size, (g + 1) * size)
        if priority == "choice":
            order = [(t, k) for k in range(choices) for t in span]
        else:
            order = [(t, k) for t in span for k in range(choices)]
        for t, k in order:
            e = ids[t, k]
            if e >= 0 and taken[e] < capacity:
                taken[e] += 1
                out[t, k] = e
    return out


def layer_reference(x, ids, gates, wi, wo, dout):
    """(y, dx, dgates, dwi, dwo) of y[t] = sum_k gate * relu(x wi) wo."""
    x, gates, wi, wo, dout = (
        np.asarray(a, np.float64) for a in (x, gates, wi, wo, dout)
    )
    y, dx, dgates = np.zeros_like(x), np.zeros_like(x), np.zeros_like(gates)
    dwi, dwo = np.zeros_like(wi), np.zeros_like(wo)
    for t, k in np.argwhere(ids >= 0):
        e, s = ids[t, k], gates[t, k]
        h = x[t] @ wi[e]
        a = np.maximum(h, 0)
        y[t] += s * (a @ wo[e])
        dgates[t, k] = dout[t] @ (a @ wo[e])
        dwo[e] += np.outer(a, s * dout[t])
        dh = np.where(h > 0, s * (wo[e] @ dout[t]), 0)
        dwi[e] += np.outer(x[t], dh)
        dx[t] += wi[e] @ dh
    return y, dx, dgates, dwi, dwo


def transpose(a):
    return jnp.swapaxes(a, -1, -2)


def forward_body(dtype):
    def body(own, rows, weights):
        (x,), (wi, wo) = rows, weights
        h = jnp.matmul(x, wi)
        y = jnp.matmul(jnp.maximum(h, 0), wo)
        return (y.astype(dtype), h.astype(dtype)), ()

    return body


def backward_body(dtype):
    def body(own, rows, weights):
        (x, dy, s, h), (wi, wo) = rows, weights
        a = jnp.maximum(h, 0)
        u = jnp.matmul(dy, transpose(wo))
        ds = jnp.sum(u * a, -1, keepdims=True)
        dh = jnp.where(h > 0, s * u, 0)
        dx = jnp.matmul(dh, transpose(wi))
        sums = jnp.matmul(transpose(x), dh), jnp.matmul(transpose(a), s * dy)
        return (dx.astype(dtype), ds), sums

    return body
