"""Adversarial routings: name -> (ids int32[T, K], number of experts)."""

import numpy as np


def random_ids(tokens, choices, experts, seed=0):
    rng = np.random.default_rng(seed)
    picks = [rng.permutation(experts)[:choices] for _ in range(tokens)]
    return np.stack(picks).astype(np.int32)


def with_drops(ids, seed=1):
    drop = np.random.default_rng(seed).random(ids.shape) < 0.3
    return np.where(drop, -1, ids).astype(np.int32)


ROUTINGS = {
    "random": (random_ids(40, 2, 5), 5),
    "drops": (with_drops(random_ids(41, 2, 5)), 5),
    "one token": (random_ids(1, 2, 4), 4),
    "one expert": (np.zeros((37, 1), np.int32), 1),
    "all choose every expert": (random_ids(9, 6, 6), 6),
    "all dropped": (np.full((12, 2), -1, np.int32), 3),
    "one expert gets all": (np.full((150, 2), 2, np.int32), 5),
    "last expert only": (np.full((33, 1), 6, np.int32), 7),
    "two experts": (np.tile(np.array([[1, 5]], np.int32), (131, 1)), 8),
    "more experts than rows": (random_ids(7, 2, 256), 256),
    "255 rows": (np.zeros((255, 1), np.int32), 2),
    "256 rows": (np.zeros((256, 1), np.int32), 2),
    "257 rows": (np.zeros((257, 1), np.int32), 2),
}
