"""A small GLaM in float64 NumPy, forward and backward, from the paper's facts alone.

Layer after layer, head after head and token after token: nothing here is shared with
the code that it judges. Gradients are derived by hand; test_oracle.py proves them by
finite differences.
"""

from dataclasses import dataclass

import numpy as np

EPSILON = 1e-6
POSITIONS = ("bias", "content", "position", "distance")


@dataclass(frozen=True)
class Sizes:
    layers: int
    experts: int | None
    groups: int
    factor: float
    balance_weight: float = 0.01
    z_weight: float = 0.0
    activation: str = "relu"


def model(sizes, params, inputs, targets, segments):
    """Loss, logits [B, L, V], load-balance losses, and a function for the gradients.

    `params` is {"embedding", "final_norm", "layers": [{...}]}.
    """
    table = params["embedding"]
    width = table.shape[1]
    x = table[inputs]
    balances, back = [], []
    for number, layer in enumerate(params["layers"]):
        moe = sizes.experts is not None and number % 2 == 0
        made, undo = attention(layer, x, segments)
        x, undo_attention = x + made, undo
        if moe:
            made, balance, undo = moe_layer(sizes, layer, x, segments)
            balances.append(balance)
        else:
            made, undo = dense_layer(layer, x)
        x = x + made
        back.append((undo_attention, undo))
    normed, undo_norm = rms_norm(x, params["final_norm"])
    logits = normed * width**-0.5 @ table.T
    loss, d_logits = objective(sizes, logits, targets, segments)
    loss += sizes.balance_weight * sum(balances)

    def gradients():
        grads = {"layers": [], "embedding": np.zeros_like(table)}
        last = normed.reshape(-1, width) * width**-0.5
        grads["embedding"] += d_logits.reshape(-1, len(table)).T @ last
        d_x, grads["final_norm"] = undo_norm(d_logits @ table * width**-0.5)
        for undo_attention, undo in reversed(back):
            d_made, found = undo(d_x)
            d_x = d_x + d_made
            d_made, more = undo_attention(d_x)
            d_x = d_x + d_made
            grads["layers"].insert(0, found | more)
        np.add.at(grads["embedding"], inputs, d_x)
        return grads

    return loss, logits, balances, gradients


def objective(sizes, logits, targets, segments):
    """Cross-entropy and z-loss over all positions, padding adding nothing."""
    top = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(axis=-1, keepdims=True)
    log_sum = (np.log(total) + top)[..., 0]
    real = segments > 0
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss = np.sum(real * (log_sum - chosen + sizes.z_weight * log_sum**2)) / real.size
    d_logits = weights / total * (1 + 2 * sizes.z_weight * log_sum)[..., None]
    spot = np.zeros_like(logits)
    np.put_along_axis(spot, targets[..., None], 1.0, axis=-1)
    return loss, (d_logits - spot) * real[..., None] / real.size


def rms_norm(x, scale):
    inverse = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON)

    def undo(d_y):
        d_scaled = d_y * scale
        inner = np.mean(d_scaled * x, axis=-1, keepdims=True)
        d_scale = np.sum(d_y * x * inverse, axis=tuple(range(x.ndim - 1)))
        return inverse * d_scaled - inverse**3 * x * inner, d_scale

    return x * inverse * scale, undo


def bucket(distance):
    if distance < 16:
        return distance
    return min(16 + int(np.floor(np.log(distance / 16) / np.log(128 / 16) * 16)), 31)


def attention(layer, x, segments):
    """Pre-norm attention; each sequence and head by itself."""
    normed, undo_norm = rms_norm(x, layer["attention_norm"])
    length = x.shape[1]
    buckets = np.array(
        [[bucket(max(q - k, 0)) for k in range(length)] for q in range(length)]
    )
    earlier = np.tril(np.ones((length, length), bool))
    wq, wk, wv, wo = (layer[name] for name in ("query", "key", "value", "out"))
    made, saved = np.zeros_like(x), {}
    for b in range(len(x)):
        same = segments[b][:, None] == segments[b][None]
        seen = earlier & same & (segments[b] > 0)[None]
        for h in range(wq.shape[1]):
            q, k, v = (normed[b] @ w[:, h] for w in (wq, wk, wv))
            logits = near(layer, h, q, k, buckets)
            weights = np.where(seen, np.exp(logits), 0.0)
            weights = weights / (1 + weights.sum(axis=1, keepdims=True))
            made[b] += weights @ v @ wo[h]
            saved[b, h] = q, k, v, weights

    def undo(d_made):
        d_normed = np.zeros_like(x)
        found = {n: np.zeros_like(layer[n]) for n in ("query", "key", "value", "out")}
        found |= {n: np.zeros_like(layer[n]) for n in POSITIONS if n in layer}
        for (b, h), (q, k, v, weights) in saved.items():
            found["out"][h] += (weights @ v).T @ d_made[b]
            d_out = d_made[b] @ wo[h].T
            d_weights = d_out @ v.T
            inner = np.sum(weights * d_weights, axis=1, keepdims=True)
            d_logits = weights * (d_weights - inner)
            d_q, d_k = undo_near(layer, h, q, k, buckets, d_logits, found)
            parts = (d_q, d_k, weights.T @ d_out)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                found[name][:, h] += normed[b].T @ part
                d_normed[b] += part @ layer[name][:, h].T
        d_x, found["attention_norm"] = undo_norm(d_normed)
        return d_x, found

    return made, undo


def waves(length, width):
    """Sines, then cosines, of each distance (Dai et al. 2019)."""
    found = np.zeros((length, width))
    for distance in range(length):
        for i in range(width):
            place, wave = (i, np.sin) if i < width // 2 else (i - width // 2, np.cos)
            found[distance, i] = wave(distance / 10_000 ** (2 * place / width))
    return found


def near(layer, h, q, k, buckets):
    """The logits of a head: by the table of buckets, or as Transformer-XL has them."""
    if "bias" in layer:
        return q @ k.T + layer["bias"][h][buckets]
    r = waves(len(q), layer["distance"].shape[0]) @ layer["distance"][:, h]
    logits = (q + layer["content"][h]) @ k.T
    for i in range(len(q)):
        for j in range(i + 1):
            logits[i, j] += (q[i] + layer["position"][h]) @ r[i - j]
    return logits


def undo_near(layer, h, q, k, buckets, d_logits, found):
    """Cotangents of the queries and keys; those of parameters are added to `found`."""
    if "bias" in layer:
        np.add.at(found["bias"][h], buckets, d_logits)
        return d_logits @ k, d_logits.T @ q
    u, v = layer["content"][h], layer["position"][h]
    table = waves(len(q), layer["distance"].shape[0])
    r = table @ layer["distance"][:, h]
    by_distance = np.zeros_like(d_logits)
    for i in range(len(q)):
        for j in range(i + 1):
            by_distance[i, i - j] += d_logits[i, j]
    found["content"][h] += (d_logits @ k).sum(axis=0)
    found["position"][h] += (by_distance @ r).sum(axis=0)
    found["distance"][:, h] += table.T @ by_distance.T @ (q + v)
    return d_logits @ k + by_distance @ r, d_logits.T @ (q + u)


def gelu(x):
    """The tanh form, and its derivative."""
    root = np.sqrt(2 / np.pi)
    tanh = np.tanh(root * (x + 0.044715 * x**3))
    slope = root * (1 + 3 * 0.044715 * x**2) * (1 - tanh**2)
    return 0.5 * x * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * x * slope


def dense_layer(layer, x):
    normed, undo_norm = rms_norm(x, layer["feed_forward_norm"])
    wi0, wi1, wo = (layer[name] for name in ("wi0", "wi1", "wo"))
    gate, slope = gelu(normed @ wi0)
    linear = normed @ wi1

    def undo(d_made):
        rows = normed.reshape(-1, normed.shape[-1])
        d_inner = d_made @ wo.T
        d_gate, d_linear = d_inner * linear * slope, d_inner * gate
        flat = [a.reshape(len(rows), -1) for a in (gate * linear, d_made)]
        found = {"wo": flat[0].T @ flat[1]}
        found["wi0"] = rows.T @ d_gate.reshape(len(rows), -1)
        found["wi1"] = rows.T @ d_linear.reshape(len(rows), -1)
        d_x, scale = undo_norm(d_gate @ wi0.T + d_linear @ wi1.T)
        return d_x, found | {"feed_forward_norm": scale}

    return (gate * linear) @ wo, undo


def route(sizes, logits, valid):
    """(token, choice) -> (expert, weight before capacity, kept), and softmax scores."""
    tokens, experts = logits.shape
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    chosen = np.zeros((tokens, 2), int)
    gates = np.zeros((tokens, 2))
    for t in range(tokens):
        chosen[t, 0] = np.argmax(scores[t])
        rest = scores[t].copy()
        rest[chosen[t, 0]] = -1.0
        chosen[t, 1] = np.argmax(rest)
        pair = scores[t, chosen[t]]
        gates[t] = pair / (pair.sum() + 1e-9)
    group = tokens // sizes.groups
    places = -(-int(group * sizes.factor / experts) // 4) * 4
    kept = np.zeros((tokens, 2), bool)
    for g in range(sizes.groups):
        taken = np.zeros(experts, int)
        for c in (0, 1):
            for t in range(g * group, (g + 1) * group):
                if valid[t]:
                    kept[t, c] = taken[chosen[t, c]] < places
                    taken[chosen[t, c]] += 1
    return scores, chosen, gates, kept


def moe_layer(sizes, layer, x, segments):
    """Top-2 experts with capacity: output, load-balance loss, and the way back."""
    normed, undo_norm = rms_norm(x, layer["feed_forward_norm"])
    rows, valid = normed.reshape(-1, x.shape[-1]), segments.reshape(-1) > 0
    router, wi, wo = (layer[name] for name in ("router", "wi", "wo"))
    scores, chosen, gates, kept = route(sizes, rows @ router, valid)
    made, outer, inner = np.zeros_like(rows), {}, {}
    for t, c in np.argwhere(kept):
        e = chosen[t, c]
        before = wi[e] @ rows[t]
        inner[t, c] = (
            gelu(before)
            if sizes.activation == "gelu"
            else (np.maximum(before, 0), (before > 0).astype(float))
        )
        outer[t, c] = wo[e] @ inner[t, c][0]
        made[t] += gates[t, c] * outer[t, c]
    balance, d_balance = load_balance(sizes, scores, chosen, valid)

    def undo(d_made):
        d_made = d_made.reshape(rows.shape)
        found = {n: np.zeros_like(layer[n]) for n in ("wi", "wo")}
        d_rows, d_gates = np.zeros_like(rows), np.zeros_like(gates)
        for (t, c), (active, slope) in inner.items():
            e, gate = chosen[t, c], gates[t, c]
            d_gates[t, c] = d_made[t] @ outer[t, c]
            found["wo"][e] += gate * np.outer(d_made[t], active)
            d_before = gate * (wo[e].T @ d_made[t]) * slope
            found["wi"][e] += np.outer(d_before, rows[t])
            d_rows[t] += wi[e].T @ d_before
        d_scores = sizes.balance_weight * d_balance
        for t in np.flatnonzero(valid):
            total = scores[t, chosen[t]].sum() + 1e-9
            d_pair = (d_gates[t] - d_gates[t] @ gates[t]) / total
            d_scores[t, chosen[t]] += d_pair
        mean = np.sum(d_scores * scores, axis=1, keepdims=True)
        d_logits = scores * (d_scores - mean)
        found["router"] = rows.T @ d_logits
        d_rows += d_logits @ router.T
        d_x, found["feed_forward_norm"] = undo_norm(d_rows.reshape(x.shape))
        return d_x, found

    return made.reshape(x.shape), balance, undo


def load_balance(sizes, scores, chosen, valid):
    """E^2 * mean over (group, expert) of the two means; and its slope in scores."""
    tokens, experts = scores.shape
    group = tokens // sizes.groups
    balance, slope = 0.0, np.zeros_like(scores)
    for g in range(sizes.groups):
        own = [t for t in range(g * group, (g + 1) * group) if valid[t]]
        for e in range(experts):
            share = np.mean([chosen[t, 0] == e for t in own])
            mean = np.mean([scores[t, e] for t in own])
            balance += experts * share * mean / sizes.groups
            slope[own, e] += experts * share / len(own) / sizes.groups
    return balance, slope
