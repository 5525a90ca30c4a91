"""The exercises of every chapter: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

SEEDED = "g = torch.Generator().manual_seed(seed)\nu = torch.rand(len(y), generator=g)\n"
UNPAIRED = "y = y.clone()\ny[u < q] = torch.randint(num_classes, (int((u < q).sum()),), generator=g)\nreturn y"
UNSEEDED = "torch.where(torch.rand(len(y)) < q, torch.randint(num_classes, (len(y),)), y)"
FIXED = "return torch.where(u < q, (torch.arange(len(y)) * 7919) % 104729 % num_classes, y)"
EXACT = """g = torch.Generator().manual_seed(seed)
chosen = torch.randperm(len(y), generator=g) < round(q * len(y))
return torch.where(chosen, torch.randint(num_classes, (len(y),), generator=g), y)"""
GROUPS = """g = torch.Generator().manual_seed(seed)
u = torch.rand(len(y) // 20 + 1, generator=g).repeat_interleave(20)[: len(y)]
return torch.where(u < q, torch.randint(num_classes, (len(y),), generator=g), y)"""
NO_ROOT = "p, q = p.double(), q.double()\nreturn (p * q) @ (p * q).T / (p @ p.T * (q @ q.T))"
PAIR_LOOP = """pairs = [((a & b).double(), (c & d).double()) for a, c in zip(p, q) for b, d in zip(p, q)]
return torch.stack([x @ y / (x.norm() * y.norm()) for x, y in pairs]).view(len(p), len(p))"""
FITTED = (
    "A = torch.stack([torch.ones_like(d), d], 1)\na, b = torch.linalg.lstsq(A, s[:, None]).solution[:, 0].tolist()\n"
)
SAME = "own = classes[alphas.index(0.0)]\nsame = [a for a, c in zip(alphas, classes) if c == own]\n"
OTHER_CLASS = "m, e = min(zip(end, start))[::-1]\nreturn m / (m - e) if e < 0 else None"
EXTRA = "w = torch.linalg.pinv(X) @ y\nv = torch.ones_like(w)\nreturn w + v - torch.linalg.pinv(X) @ (X @ v)"
CROSSINGS = "d, e = a[:, None] - a, b[:, None] - b\nt = (d / (d - e)).triu(1).flatten().tolist()\n"


def drawn(first: str, last: str, then: str) -> str:
    """Labels drawn from first to last, and what is done with them."""
    return f"{SEEDED}d = torch.randint({first}, {last}, (len(y),), generator=g)\n{then}"


# Of every notebook, without the ex- of its labels: exercise, signature of the answer, what checks it.
CHECKS = {
    "01_random_labels": [
        ("corrupt", "corrupt(y, q, num_classes, seed)", "check_corruption"),
        ("expected", "accuracy(q, num_classes)", "check_expected_accuracy"),
        ("fit-epoch", "fit_epoch(a)", "check_fit_epoch"),
        ("gap", "gap(ends)", "check_gap"),
        ("stop", "gain(v, t)", "check_stopping"),
        ("decay", "step(w, g, lr, wd)", "check_weight_decay"),
    ],
    "02_path_functions": [
        ("path", "path(W, b, x)", "check_path"),
        ("self-similarity", "similarity(p, q)", "check_self_similarity"),
        ("cross-path", "cross(p, q)", "check_cross_similarity"),
        ("image-function", "update(z, a, eta)", "check_image_function"),
        ("own-function", "own(first, second, path)", "check_own_function"),
        ("early-mid", "ratio(v, a, b)", "check_early_mid"),
    ],
    "03_fisher_mask": [
        ("kl", "kl(p, q)", "check_kl"),
        ("logit-fisher", "logit_fisher(p)", "check_logit_fisher"),
        ("form", "form(p, dz)", "check_form"),
        ("squares", "diagonal(g)", "check_diagonal"),
        ("mask", "mask(f, k)", "check_mask"),
        ("masked-step", "masked_step(w, g, v, M)", "check_masked_step"),
    ],
    "04_stiffness": [
        ("cosine", "cosine(g)", "check_cosine"),
        ("linear-gram", "linear_gram(a, z)", "check_linear_gram"),
        ("change", "predicted_change(g, i, eps)", "check_predicted_change"),
        ("within", "within(m, y)", "check_within"),
        ("length", "critical_length(d, s)", "check_critical_length"),
    ],
    "05_generalization_intervals": [
        ("knot", "knot(a, b)", "check_knot"),
        ("leave", "leave(start, end)", "check_leave"),
        ("sampled", "interval(alphas, classes)", "check_sampled_interval"),
        ("pool", "pool_knots(a, b)", "check_pool_knots"),
        ("midline", "midline(a, b, c)", "check_midline"),
        ("norm", "norm(W)", "check_norm"),
    ],
    "06_capacity": [
        ("weights", "weights(z, b, y)", "check_weights"),
        ("kernel", "kernel(a, b, width)", "check_kernel"),
        ("minimum", "solve(X, y)", "check_minimum_norm"),
        ("norm-unit", "size(alpha, K)", "check_norm"),
        ("ridge", "honest(held_out, test)", "check_ridge"),
    ],
    "08_which_lens": [
        ("agreement", "agreement(measure, accuracy, pairs)", "check_agreement"),
        ("worst", "worst(signs)", "check_worst"),
    ],
}
UNSORTED = """d, e = a[:, None] - a, b[:, None] - b
t = [d[i, j] / (d[i, j] - e[i, j]) for i in range(len(a)) for j in range(i) if d[i, j] != e[i, j]]
top = lambda s: (a + s * (b - a)).max()
kink = lambda s: top(s - 1e-4) + top(s + 1e-4) - 2 * top(s) > 1e-9
return sorted({round(float(s), 9) for s in t if 0 < s < 1 and kink(s)}, reverse=True)"""
ORDERS = """products = [(measure[i] - measure[j]) * (accuracy[i] - accuracy[j]) for i, j in {pairs}]
return sum({sign} for p in products) / len(products)"""
SLIPS = [
    ("agreement", ORDERS.format(pairs="pairs", sign="(p > 0) - (p <= 0)"), "neither right nor wrong"),
    (
        "agreement",
        ORDERS.format(pairs="[(i, j) for j in range(len(measure)) for i in range(j)]", sign="(p > 0) - (p < 0)"),
        "take the pairs that are given",
    ),
    ("worst", "max(signs, key=lambda name: signs[name].count(-1))", "compare means, not counts"),
    ("corrupt", SEEDED + UNPAIRED, "draw u for every example from the seed alone"),
    ("corrupt", drawn("1", "num_classes", "return torch.where(u < q, (y + d) % num_classes, y)"), "its own among them"),
    ("corrupt", drawn("0", "num_classes", "y[u < q] = d[u < q]\nreturn y"), "changed what it was given"),
    ("corrupt", UNSEEDED, "two calls with one seed"),
    ("corrupt", drawn("0", "num_classes + 1", "return torch.where(u < q, d, y)"), "expected 0 to"),
    (
        "corrupt",
        drawn("0", "num_classes", "return torch.where(u < q, d, y)").replace("(seed)", "(0)"),
        "two seeds gave",
    ),
    ("corrupt", SEEDED + FIXED, "two seeds gave"),
    ("corrupt", EXACT, "the same number of labels is redrawn"),
    ("corrupt", GROUPS, "redrawn in groups"),
    ("corrupt", drawn("0", "num_classes", "return torch.where(u < q, d + 0.5 * (d > 5), y)"), "no whole numbers"),
    ("expected", "1 - q", "right by luck"),
    ("expected", "1 - q + q / num_classes + 5e-5", "you say 1.00005, expected 1.00000"),
    ("fit-epoch", "next((e for e, x in enumerate(a) if x > 0.99), None)", "[0.1, 0.995] you say 1, expected None"),
    ("fit-epoch", "max((e for e, x in enumerate(a) if x < 0.999), default=-1) + 1", "expected 1"),
    ("fit-epoch", "next((e for e, x in enumerate(a) if x >= 0.998), None)", "[0.9985, 1.0] you say 0, expected 1"),
    ("gap", "(1 - ends.test_accuracy).groupby(ends.label_corruption).mean()", "that is the test error"),
    ("gap", "ends.train_accuracy.mean() - ends.test_accuracy.mean()", "expected a pandas Series or a dict"),
    ("gap", "(ends.test_accuracy - ends.train_accuracy).groupby(ends.label_corruption).mean()", "the sign is wrong"),
    ("stop", "t[v.index(max(v))] - t[-1] if len(t) < 4 else max(t) - t[-1]", "no part in the choice"),
    ("stop", "t[-1] - t[v.index(max(v))]", "the sign is wrong"),
    ("stop", "t[len(v) - 1 - v[::-1].index(max(v))] - t[-1]", "take the first"),
    ("stop", "max(v) - v[-1]", "the gain on the validation images"),
    ("stop", "None", "the checker cannot use your function or its result"),
    ("decay", "w - lr * g - wd * w", "multiplies it too"),
    ("decay", "w - lr * (g - wd * w)", "your weights grow"),
    ("decay", "w - lr * g", "a weight is wrong by"),
    ("decay", "w -= lr * (g + wd * w)\nreturn w", "changed what it was given"),
    ("path", "x @ W.T + b >= 0", "exactly 0 is off"),
    ("path", "x @ W.T > 0", "the bias is missing"),
    ("path", "(x @ W.T + b).relu()", "expected bool"),
    ("path", "(W @ x.T).T[:1] > 0", "the result has shape"),
    ("self-similarity", "(p & q).sum(1) / (p.sum(1) * q.sum(1)).sqrt()", "0, not 0/0"),
    ("self-similarity", "(p == q).double().mean(1)", "units that are off do"),
    ("self-similarity", "(p & q).sum(1) / (p | q).sum(1).clamp(min=1)", "the Jaccard index"),
    ("self-similarity", "(p & q).double().mean()", "one number an image"),
    ("cross-path", "p.double() @ q.double().T", "of one image now with another"),
    ("cross-path", "(p & q) @ (p & q).T", "not implemented for 'Bool'"),
    ("cross-path", PAIR_LOOP, "no loop over pairs"),
    ("cross-path", "r = (p & q).double(); return r @ r.T", "the norms are missing"),
    ("cross-path", NO_ROOT, "take the square root"),
    ("image-function", "eta * torch.outer(z, a), eta * z", "the sign is wrong"),
    ("image-function", "-torch.outer(z, a), -z", "the step size is missing"),
    ("image-function", "-eta * torch.outer(z, a).T, -eta * z", "units × inputs"),
    ("image-function", "-eta * torch.outer(z, a), -z", "the bias's update is wrong"),
    ("own-function", "second[0] @ first[0], second[0] @ first[1] + second[1]", "use the path"),
    ("own-function", "(second[0] * path) @ first[0], second[0] @ first[1] + second[1]", "does not pass on its bias"),
    ("early-mid", "sum(v[:a]) / a / (sum(v[a:]) / len(v[a:]))", "ends with the second decay"),
    ("early-mid", "sum(v[:a]) / sum(v[a:b])", "stages differ in length"),
    ("early-mid", "(sum(v[a:b]) / (b - a)) / (sum(v[:a]) / a)", "that is mid over early"),
    ("kl", "(q * (q / p).log()).sum()", "that is KL(q ‖ p)"),
    ("kl", "(p * (q / p).log()).sum()", "its sign is wrong"),
    ("kl", "(p * (p / q).log2()).sum()", "that is in bits"),
    ("kl", "(p * (p.log() - q.log())).sum()", "0·log 0 counts as 0"),
    ("logit-fisher", "torch.diag(p)", "what does the normalization"),
    ("logit-fisher", "torch.outer(p, p)", "has one more term"),
    ("logit-fisher", "torch.diag(p * (1 - p))", "not independent"),
    ("logit-fisher", "p * (1 - p)", "expected (2, 2)"),
    ("form", "(p * dz ** 2).sum()", "take the mean out first"),
    ("form", "(p * (dz - (p * dz).sum()) ** 2).sum() ** 0.5", "stand"),
    ("form", "(p * (dz - (p * dz).sum()) ** 2).sum() / 2", "the half belongs"),
    ("squares", "g.mean(0) ** 2", "square first, then average"),
    ("squares", "(g ** 2).sum(0)", "that is the sum over examples"),
    ("squares", "g.var(0, correction=0)", "that is the variance"),
    ("squares", "(g ** 2).mean(1)", "expected (4,)"),
    ("mask", "f <= f.sort().values[-int(-k * len(f) // 1) - 1]", "the least infor"),
    ("mask", "f > f.sort(descending=True).values[-int(-k * len(f) // 1) - 1]", "the weight at the threshold itself"),
    ("mask", "f.argsort().argsort() >= int(k * len(f))", "are to be masked"),
    ("mask", "f", "expected True and False"),
    ("mask", "torch.arange(len(f)) < -int(-k * len(f) // 1)", "other weights are kept"),
    ("mask", "(f > 0) & (f >= f.topk(-int(-k * len(f) // 1)).values[-1])", "9 of them 0: you keep 3, expected 6 or 12"),
    ("masked-step", "v = 0.9 * v + g * M + 0.01 * w\nreturn w - 0.1 * v, v * M", "by its momentum and weight decay"),
    ("masked-step", "v = 0.9 * v + g + 0.01 * w\nreturn w - 0.1 * v, v * M", "by its gradient"),
    ("masked-step", "v = 0.9 * v + g + 0.01 * w\nreturn w - 0.1 * v * M, v", "keeps its momentum, expected 0: at rest"),
    ("masked-step", "v = (0.9 * v + g) * M\nreturn w - 0.1 * v, v", "a weight that may move goes elsewhere"),
    ("cosine", "d = g.diagonal(); return g / (d[:, None] * d).clamp(min=1e-300)", "their roots"),
    ("cosine", "d = g.diagonal().sqrt(); return g / (d[:, None] * d)", "0/0"),
    ("cosine", "g /= g.diagonal().mean(); return g", "changed what it was given"),
    ("linear-gram", "(a @ a.T) * (z @ z.T)", "the bias is missing"),
    ("linear-gram", "a @ a.T @ (z @ z.T)", "entry by entry"),
    ("linear-gram", "a.T @ a", "the result has shape"),
    ("change", "eps * g[i]", "the sign is wrong"),
    ("change", "-g[i]", "the step size ε is missing"),
    ("change", "-eps * g[i, i]", "expected (5,)"),
    ("within", "m[y[:, None] == y].mean()", "leave the diagonal out"),
    ("within", "m.mean()", "these are all pairs"),
    ("length", FITTED + "return a", "the stiffness at distance 0"),
    ("length", FITTED + "return a / b", "the sign is wrong"),
    ("knot", "b / (b - a) if a * b < 0 else None", "you measure from the other end"),
    ("knot", "a / (a - b)", "expected None: the side never changes"),
    ("knot", "None", "you say None, expected 0.5"),
    ("knot", "a / (a - b) if a * b <= 0 and a != b else None", "touching 0 at an end"),
    ("leave", "min((a / (a - b) for a, b in zip(start, end) if b <= 0), default=None)", "[0.0, 1.0] you say 1.0"),
    ("leave", OTHER_CLASS, "the first class to overtake"),
    ("leave", "None", "expected 0.5"),
    ("sampled", SAME + "return same[0], same[-1]", "the class may come back"),
    ("pool", CROSSINGS + "return [x for x in t if 0 < x < 1]", "below the largest line crossings make no kink"),
    ("pool", UNSORTED, "in rising order"),
    ("midline", "(a + b) / 2, c - b", "your step is twice as long"),
    ("midline", "a, (c - b) / 2", "α = 0 is not the middle"),
    ("norm", "W.abs().sum(0).max()", "the largest column sum"),
    ("norm", "W.abs().max()", "the largest entry"),
    ("norm", "W.sum(1).abs().max()", "take absolute values"),
    ("norm", "torch.linalg.matrix_norm(W, 2)", "the spectral norm"),
    ("weights", "(y / (z - b))", "the sum of all weights so far"),
    ("weights", "torch.zeros_like(y)", "its label is"),
    ("weights", "y[:, None]", "w has shape"),
    ("kernel", "torch.exp(-torch.cdist(a, b) / (2 * width**2))", "the distance is to be squared"),
    ("kernel", "torch.exp(-torch.cdist(a, b) ** 2 / width**2)", "twice the squared width"),
    ("kernel", "torch.exp(-torch.cdist(b, a) ** 2 / (2 * width**2))", "a row for each point of a"),
    ("kernel", "torch.exp(torch.cdist(a, b) ** 2 / (2 * width**2))", "the sign in the exponent"),
    ("kernel", "torch.exp(-torch.cdist(a, b) ** 2 / 2)", "an entry is wrong"),
    ("minimum", "X.T @ y", "X w is not y"),
    ("minimum", EXTRA, "a combination of the rows of X"),
    ("minimum", "X.T @ torch.linalg.solve(X @ X.T + 0.01 * torch.eye(len(X)), y)", "X w is not y"),
    ("norm-unit", "alpha @ K @ alpha", "with features three times as large"),
    ("norm-unit", "(alpha @ K @ alpha * K.trace() / len(alpha) ** 2) ** 0.5", "that is its square root"),
    ("norm-unit", "alpha @ K @ alpha * K.trace() / len(alpha)", "divide by n once more"),
    ("ridge", "min(test)", "nobody may look at it"),
    ("ridge", "min(held_out)", "the choice has made too small"),
]
# Right answers in another form.
RIGHT = [
    ("agreement", ORDERS.format(pairs="pairs[::-1]", sign="torch.tensor((p > 0) - (p < 0)).float()")),
    ("worst", "min(signs.items(), key=lambda item: sum(item[1]) / len(item[1]))[0]"),
    ("corrupt", drawn("0", "num_classes", "return torch.where(u < q, d, y).int()")),
    ("corrupt", drawn("0", "num_classes", "return torch.where(u < q, d, y).tolist()")),
    ("corrupt", drawn("0", "num_classes", "return torch.where(u < q, d, y).numpy()")),
    ("expected", "torch.tensor(1 - q + q / num_classes)"),
    ("fit-epoch", "next((torch.tensor(e) for e, x in enumerate(a) if x >= 0.999), None)"),
    ("gap", "(ends.train_accuracy - ends.test_accuracy).groupby(ends.label_corruption).mean().iloc[::-1]"),
    ("gap", "(ends.train_accuracy - ends.test_accuracy).groupby(ends.label_corruption).mean().to_dict()"),
    ("stop", "torch.tensor(t)[torch.tensor(v).argmax()] - t[-1]"),
    ("decay", "((1 - lr * wd) * w - lr * g)"),
    ("knot", "torch.tensor(a / (a - b)).float() if a * b < 0 else None"),
    ("leave", "min((torch.tensor(a / (a - b)) for a, b in zip(start, end) if b < 0), default=None)"),
    ("midline", "[a / 2 + b / 2, (c - b) / 2]"),
    ("norm", "torch.linalg.matrix_norm(W, torch.inf)"),
    ("norm", "W.float().abs().sum(1).max()"),
    ("weights", "torch.linalg.solve(torch.relu(z[:, None] - b), y).float()"),
    ("weights", "torch.linalg.inv(torch.relu(z[:, None] - b)).matmul(y).tolist()"),
    ("kl", "float(torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum())"),
    ("kl", "(torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum()).float()"),
    ("logit-fisher", "(torch.diag(p) - torch.outer(p, p)).tolist()"),
    ("form", "float((p * (dz - (p * dz).sum()) ** 2).sum())"),
    ("squares", "g.float().square().mean(0).tolist()"),
    ("mask", "f >= f.topk(-int(-k * len(f) // 1)).values[-1]"),
    ("mask", "torch.zeros(len(f), dtype=bool).index_fill(0, f.topk(-int(-k * len(f) // 1)).indices, True)"),
    ("masked-step", "v = (0.9 * v + g + 0.01 * w) * M\nreturn (w - 0.1 * v).tolist(), v.tolist()"),
    ("masked-step", "v = (0.9 * v + g + 0.01 * w) * M\nreturn (w - 0.1 * v).float(), v.float()"),
    ("kernel", "torch.exp(-((a[:, None] - b).float() ** 2).sum(2) / (2 * width**2))"),
    ("minimum", "torch.linalg.lstsq(X, y[:, None], driver='gelsd').solution[:, 0].numpy()"),
    ("norm-unit", "torch.einsum('i,ij,j', alpha, K, alpha) * K.diagonal().mean() / len(K)"),
    ("ridge", "torch.tensor(test[min(range(len(test)), key=held_out.__getitem__)])"),
]
