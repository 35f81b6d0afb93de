"""How far a draw is from the proven optimum: the largest k that even fractions of images could reach."""

from __future__ import annotations

import numpy as np

from coco1k_kd.data.sampling import Pool, goals, level_of, levels, room


def certify(pool: Pool, image_ids: np.ndarray, balance: str, tolerance: int) -> str:
    """Compare a draw's k with what a linear program can reach, in a line of text.

    The relaxation of the sampler's own bounds (images per class, context, classes per image) lets images be drawn in
    fractions: what it cannot reach, no draw can. Where the draw is even, its rivals must be even as well.
    """
    from scipy.optimize import linprog  # here, since it takes half a second to import

    size, even = len(image_ids), pool.balanced(balance)
    supply, base = pool.supply[even], goals(pool, size, balance, tolerance)
    counts = pool.presence[np.isin(pool.ids, image_ids)][:, even].sum(axis=0)
    k = level_of(counts, supply)
    equal = bool((counts == np.minimum(k, supply)).all())
    highest = levels(pool, size, balance, tolerance)[1]

    bounded = (base.low > 0) | (base.high < size)
    bounded[: base.classes] = True
    shown = pool.presence[:, even].sum(axis=1)
    bits = np.concatenate((base.features[bounded], [shown >> bit & 1 for bit in range(len(even).bit_length())]))
    _, first, times = np.unique(np.packbits(bits.astype(bool), axis=0), axis=1, return_index=True, return_counts=True)
    features = base.features[bounded][:, first].astype(float)
    most = room(pool, size, balance, tolerance)[1] if balance == "context" else size * len(even)  # strict: no limit

    def reachable(k: int) -> bool:
        bounds = base.at(k, supply, equal)
        answer = linprog(
            np.zeros(len(first)),
            A_ub=np.concatenate((features, -features, shown[None, first])),
            b_ub=np.concatenate((bounds.high[bounded], -bounds.low[bounded], [most])),
            A_eq=np.ones((1, len(first))),
            b_eq=[size],
            bounds=np.stack((np.zeros(len(first)), times), axis=1),
            method="highs",
        )
        return answer.status == 0

    best, impossible = k, max(k, highest) + 1
    while best + 1 < impossible:
        middle = (best + impossible) // 2
        best, impossible = (middle, impossible) if reachable(middle) else (best, middle)
    what = f"k={k}, every class in exactly so many images" if equal else f"k={k}, or all there are, in every class"
    if best > k:
        return f"{what}; proven that no draw within the bounds has more than {best}"
    if not reachable(k + 1):
        return f"{what}; proven that no draw within the bounds has more"
    return f"{what}; more would need more classes per image than the source has, so the sampler stops here"
