"""Writes crates/feedback/tests/golden/statistics.json: what libraries say of rankings that are made here.

    python tools/golden_feedback.py crates/feedback/tests/golden/statistics.json

Needs `pip install krippendorff==0.9.0 choix==0.4.1 numpy scipy`. Krippendorff's α of ordinal values with missing ones by krippendorff;
Bradley–Terry strengths of comparisons with ties by choix, ties as a win of each side in data of twice as many games; the same with a
covariate by SciPy's minimiser, written from the likelihood.
"""

import json
import math
import sys

import choix
import krippendorff
import numpy as np
from scipy.optimize import minimize

rng = np.random.default_rng(7)


def alpha():
    raters, units, k = rng.integers(2, 6), rng.integers(8, 30), rng.integers(2, 7)
    truth = rng.integers(1, k + 1, units)
    table = np.clip(truth + rng.integers(-1, 2, (raters, units)), 1, k).astype(float)
    table[rng.random(table.shape) < 0.3] = np.nan
    value = krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal")
    columns = [[int(x) for x in column if not math.isnan(x)] for column in table.T]
    return {"units": columns, "alpha": value}


def games(players, count, length):
    strengths = rng.normal(0, 1, players)
    made = []
    for i in range(count):
        a, b = rng.choice(players, 2, replace=False)
        ahead = float(rng.normal(0, 0.7))
        p = 1 / (1 + math.exp(-(strengths[a] - strengths[b] + length * ahead)))
        won = 0.5 if rng.random() < 0.1 else float(rng.random() < p)
        made.append([int(a), int(b), won, ahead])
    return made


def strengths(players, made):
    pairs = []
    for a, b, won, _ in made:
        pairs += {1.0: [(a, b)] * 2, 0.0: [(b, a)] * 2, 0.5: [(a, b), (b, a)]}[won]
    found = choix.ilsr_pairwise(players, pairs, alpha=0.0, tol=1e-12, max_iter=10_000)
    return list(found - found.mean())


def with_length(players, made):
    a, b, won, ahead = (np.array(x) for x in zip(*made))

    def loss(at):
        lead = at[a.astype(int)] - at[b.astype(int)] + at[players] * ahead
        return np.sum(np.logaddexp(0, -lead) * won + np.logaddexp(0, lead) * (1 - won))

    at = minimize(loss, np.zeros(players + 1), method="BFGS", options={"gtol": 1e-9, "maxiter": 10_000}).x
    return {"strengths": list(at[:players] - at[:players].mean()), "covariate": at[players]}


def comparison():
    players = int(rng.integers(2, 8))
    made = games(players, 40 * players, 0.5)
    return {"players": players, "games": made, "strengths": strengths(players, made), "with_length": with_length(players, made)}


golden = {"alpha": [alpha() for _ in range(40)], "bradley_terry": [comparison() for _ in range(6)]}
with open(sys.argv[1], "w") as file:
    json.dump(golden, file)
    file.write("\n")
