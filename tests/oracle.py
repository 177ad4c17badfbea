"""Every formula again, as slow float64 loops over plain numbers: what the fast code is held against."""

import math

import numpy as np


def _rows(views):
    views = np.asarray(views, dtype=np.float64)
    return views / np.maximum(np.linalg.norm(views, axis=-1, keepdims=True), 1e-6)


def _anchors(count, batch, contrast):
    """Every anchor as ((view, image), the points it meets)."""
    if contrast == "cross-view":
        for v in range(count):
            for w in range(count):
                if v != w:
                    for i in range(batch):
                        yield (v, i), [(w, j) for j in range(batch)]
    else:
        points = [(v, i) for v in range(count) for i in range(batch)]
        for anchor in points:
            yield anchor, [p for p in points if p != anchor]


def _log_sum_exp(values):
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


def _each_anchor(views, temperature, contrast):
    rows = _rows(views)
    for (v, i), points in _anchors(*rows.shape[:2], contrast):
        yield i, {p: float(rows[v, i] @ rows[p]) / temperature for p in points}


def info_nce(views, temperature, contrast):
    losses = []
    for i, s in _each_anchor(views, temperature, contrast):
        others = [x for (_, j), x in s.items() if j != i]
        own = [x for (_, j), x in s.items() if j == i]
        losses.append(_mean(_log_sum_exp([a, *others]) - a for a in own))
    return _mean(losses)


def supcon(views, label, temperature, contrast, denominator):
    losses = []
    for i, s in _each_anchor(views, temperature, contrast):
        positives = [x for (_, j), x in s.items() if label[j] == label[i]]
        negatives = [x for (_, j), x in s.items() if label[j] != label[i]]
        everyone = positives + negatives
        losses.append(
            _mean(_log_sum_exp([p, *negatives] if denominator == "negatives" else everyone) - p for p in positives)
        )
    return _mean(losses)


def class_conditional(views, label, temperature, contrast):
    losses = []
    for i, s in _each_anchor(views, temperature, contrast):
        positives = [x for (_, j), x in s.items() if label[j] == label[i]]
        own = [x for (_, j), x in s.items() if j == i]
        losses.append(_mean(_log_sum_exp(positives) - a for a in own))
    return _mean(losses)


def spread(views, label, alpha, temperature, contrast):
    return (1 - alpha) * supcon(views, label, temperature, contrast, "negatives") + alpha * class_conditional(
        views, label, temperature, contrast
    )


def released_spread(views, label, alpha, temperature, clip):
    """View v as anchor of earlier views only; the supervised numerator is clipped, nothing else."""
    rows, losses = _rows(views), []
    for v in range(len(rows)):
        for w in range(v):
            for i in range(rows.shape[1]):
                s = [float(rows[v, i] @ rows[w, j]) / temperature for j in range(rows.shape[1])]
                positives = [x for j, x in enumerate(s) if label[j] == label[i]]
                negatives = [x for j, x in enumerate(s) if label[j] != label[i]]
                attract = _mean(
                    _log_sum_exp([p, *negatives]) - (min(p, clip) if clip is not None else p) for p in positives
                )
                losses.append((1 - alpha) * attract + alpha * (_log_sum_exp(positives) - s[i]))
    return _mean(losses)


def class_cosines(rows, label):
    """(within, between) by loops over all pairs."""
    rows = _rows(rows)
    classes = sorted(set(label))
    within, between = [], []
    for a in classes:
        mine = [i for i, y in enumerate(label) if y == a]
        if len(mine) > 1:
            within.append(_mean(float(rows[i] @ rows[j]) for i in mine for j in mine if i != j))
        for b in classes:
            if a != b:
                theirs = [i for i, y in enumerate(label) if y == b]
                between.append(_mean(float(rows[i] @ rows[j]) for i in mine for j in theirs))
    return _mean(within), _mean(between)


def mean_field_loss(alpha, cosine, superclasses, images, temperature):
    """L_spread on explicit Gram matrices: every image at ``cosine`` from its class, simplex centres, views equal."""
    n, k = images, superclasses
    gram = np.full((k * n, k * n), -(1 + (n - 1) * cosine) / n / (k - 1))  # as far apart as centres can be
    for c in range(k):
        gram[c * n : (c + 1) * n, c * n : (c + 1) * n] = cosine
    np.fill_diagonal(gram, 1.0)
    label = np.repeat(np.arange(k), n)
    s = gram / temperature
    total = []
    for i in range(0, k * n, n):  # all anchors of a class are alike
        positives, negatives = s[i][label == label[i]], s[i][label != label[i]]
        attract = _mean(_log_sum_exp([p, *negatives]) - p for p in positives)
        total.append((1 - alpha) * attract + alpha * (_log_sum_exp(list(positives)) - s[i, i]))
    return _mean(total)
