"""Non-maximum suppression, class by class, in the kinds that Darknet has.

default      drops a box whose intersection over union with a better one exceeds the threshold
             (box.c, do_nms_sort)
cornersnms   does the same (box.c, diounms_sort: the rest of its code is commented out)
greedynms    subtracts (d / c)^0.6 first: d the squared distance of the centres, c the squared diagonal
             of the box around both (box.c, box_diou)
diounms      the same with the power beta_nms (box.c, box_diounms)
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob import Array

_GREEDY_POWER = 0.6


def suppress(boxes: Array, scores: Array, threshold: float, kind: str, beta: float) -> Array:
    """The scores, 0 where a better box of the class covers this one.

    Args:
        boxes: (N, 4), centre x, y, width, height, fractions of the picture.
        scores: (N, classes), 0 where a box is none of the class.
        kind: any other word than those above is the default, as in Darknet.
    """
    power = {"greedynms": _GREEDY_POWER, "diounms": beta}.get(kind)
    kept = np.zeros_like(scores)
    for one in np.flatnonzero((scores > 0).any(axis=0)):
        chosen = np.flatnonzero(scores[:, one] > 0)
        # equals are put in order by their place, so that the order of the boxes never matters
        order = chosen[np.lexsort((*boxes[chosen].T[::-1], -scores[chosen, one]))]
        while order.size:
            best, order = order[0], order[1:]
            kept[best, one] = scores[best, one]
            order = order[~(closeness(boxes[best], boxes[order], power) > threshold)]
    return kept


def closeness(box: Array, others: Array, power: float | None) -> Array:
    """Intersection over union of a box (4,) with others (N, 4), less (d / c)^power if there is a power."""
    low = np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    both = np.maximum(high - low, 0).prod(axis=1)
    union = box[2:].prod() + others[:, 2:].prod(axis=1) - both
    found: Array = np.divide(both, union, out=np.zeros_like(both), where=(both != 0) & (union != 0))
    if power is None:
        return found
    around = np.maximum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2) - np.minimum(
        box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2
    )
    diagonal = (around**2).sum(axis=1)
    distance = ((box[:2] - others[:, :2]) ** 2).sum(axis=1)
    share = np.divide(distance, diagonal, out=np.zeros_like(diagonal), where=diagonal != 0)
    return np.asarray(np.where(diagonal != 0, found - share**power, found))
