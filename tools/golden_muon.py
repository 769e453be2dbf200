"""Prints golden values of Muon's updates in float64, for the tests of Newton–Schulz steps and of lm/src/train/muon.rs.

    python tools/golden_muon.py

Written from Jordan et al. 2024 and Liu et al. 2025 ("Moonlight"), and not from the Rust: NumPy, whole matrices, the transpose where
there are more rows than columns.
"""

import numpy as np


def newton_schulz(u, steps=5):
    x = u / (np.linalg.norm(u) + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.T


def updates(w, gradients, lr, decay, momentum=0.95):
    m = np.zeros_like(w)
    for g in gradients:
        m = momentum * m + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * m
        size = 0.2 * np.sqrt(max(w.shape))
        w = w * (1 - lr * decay) - lr * size * newton_schulz(u)
        yield w


if __name__ == "__main__":
    np.set_printoptions(precision=9, suppress=True, floatmode="fixed")
    g = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
    print("five steps from", g.tolist(), newton_schulz(g), "singular values", np.linalg.svd(newton_schulz(g))[1], sep="\n")
    print("of the transpose", newton_schulz(g.T), sep="\n")
    w = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    for t, updated in enumerate(updates(w, [g, g * [1, -1, 0.5]], lr=0.02, decay=0.1), 1):
        print(f"weights after update {t}", updated, sep="\n")
