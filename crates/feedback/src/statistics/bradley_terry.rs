//! Which of several is better, by comparisons of two at a time.

use super::{percentiles, resampling};

/// A comparison.
#[derive(Clone, Copy, Debug)]
pub struct Game {
    /// Who is compared, by number.
    pub players: [usize; 2],
    /// What the first of them won: 1, 0, or ½ for a tie.
    pub won: f64,
    /// Something else by which the first is ahead of the second, such as the logarithm of how much longer its
    /// answer is.
    pub covariate: f64,
    /// What it belongs to: comparisons of one prompt are not independent.
    pub prompt: usize,
}

/// Strengths (Bradley & Terry 1952): `a` beats `b` with probability σ(strength of a − strength of b), plus the
/// covariate's share where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// By player; their mean is 0.
    pub strengths: Vec<f64>,
    /// What one unit of the covariate is worth; 0 where it was left out.
    pub covariate: f64,
}

/// Why there are no strengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFit {
    /// Nobody was compared.
    Nothing,
    /// Some were never compared with the others, not even through others.
    Disconnected,
    /// Some never lost to the others, so that they might be better by any amount.
    Unbeaten,
    /// The covariate alone tells who wins.
    Separated,
}

/// The likeliest strengths of `players`, with the covariate or without, by Newton's method.
///
/// # Errors
/// The games do not decide them.
pub fn fit(games: &[Game], players: usize, with_covariate: bool) -> Result<Fit, NoFit> {
    check(games, players)?;
    // One player's strength is 0 until the end: only differences matter.
    let n = players - 1 + usize::from(with_covariate);
    let mut at = vec![0.0; n];
    for _ in 0..100 {
        let (gradient, hessian) = derivatives(games, players, with_covariate, &at);
        let step = solve(hessian, gradient).ok_or(NoFit::Separated)?;
        let size = step.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
        // A long step may lead away; a short one never does, since the likelihood is concave.
        let scale = if size > 2.0 { 2.0 / size } else { 1.0 };
        at.iter_mut().zip(&step).for_each(|(x, step)| *x += scale * step);
        if size < 1e-13 {
            break;
        }
        if at.iter().any(|x| x.abs() > 50.0) {
            return Err(NoFit::Separated);
        }
    }
    let covariate = if with_covariate { at[players - 1] } else { 0.0 };
    let mut strengths = at[..players - 1].to_vec();
    strengths.push(0.0);
    let mean = strengths.iter().sum::<f64>() / players as f64;
    strengths.iter_mut().for_each(|strength| *strength -= mean);
    Ok(Fit { strengths, covariate })
}

/// The log-likelihood's gradient, and its second derivatives with the opposite sign.
fn derivatives(
    games: &[Game],
    players: usize,
    with_covariate: bool,
    at: &[f64],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut gradient = vec![0.0; at.len()];
    let mut hessian = vec![vec![0.0; at.len()]; at.len()];
    for game in games {
        let [a, b] = game.players;
        let mut terms = Vec::with_capacity(3);
        terms.extend([(a, 1.0), (b, -1.0)].into_iter().filter(|(player, _)| *player < players - 1));
        if with_covariate {
            terms.push((players - 1, game.covariate));
        }
        let lead: f64 = terms.iter().map(|(i, x)| at[*i] * x).sum();
        let p = 1.0 / (1.0 + (-lead).exp());
        for &(i, x) in &terms {
            gradient[i] += (game.won - p) * x;
            for &(j, y) in &terms {
                hessian[i][j] += p * (1.0 - p) * x * y;
            }
        }
    }
    (gradient, hessian)
}

/// x of A x = b for a positive definite A; none where it is singular.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        let row = a[i].clone();
        if row[i] <= 1e-12 {
            return None;
        }
        for j in i + 1..n {
            let factor = a[j][i] / row[i];
            a[j].iter_mut().zip(&row).skip(i).for_each(|(x, y)| *x -= factor * y);
            b[j] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        let rest: f64 = (i + 1..n).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - rest) / a[i][i];
    }
    Some(b)
}

/// Whether the likeliest strengths are finite: from everybody a chain of wins or ties leads to everybody (Ford 1957).
fn check(games: &[Game], players: usize) -> Result<(), NoFit> {
    if games.is_empty() || players < 2 {
        return Err(NoFit::Nothing);
    }
    let reached = |edges: &dyn Fn(&Game) -> Vec<(usize, usize)>| {
        let mut is_reached = vec![false; players];
        let mut waiting = vec![0];
        while let Some(player) = waiting.pop() {
            if std::mem::replace(&mut is_reached[player], true) {
                continue;
            }
            let next = games.iter().flat_map(edges).filter(|(from, _)| *from == player);
            waiting.extend(next.map(|(_, to)| to));
        }
        is_reached.iter().all(|reached| *reached)
    };
    let won = |game: &Game| {
        let [a, b] = game.players;
        [(a, b, game.won), (b, a, 1.0 - game.won)].into_iter().filter(|(.., won)| *won > 0.0)
    };
    if !reached(&|game| vec![(game.players[0], game.players[1]), (game.players[1], game.players[0])]) {
        return Err(NoFit::Disconnected);
    }
    let beats = reached(&|game| won(game).map(|(a, b, _)| (a, b)).collect());
    let is_beaten = reached(&|game| won(game).map(|(a, b, _)| (b, a)).collect());
    if beats && is_beaten { Ok(()) } else { Err(NoFit::Unbeaten) }
}

/// For each player the interval of 95 % of their strength, by resampling prompts (Efron 1979). None where most
/// resamples do not decide strengths.
pub fn intervals(
    games: &[Game],
    players: usize,
    with_covariate: bool,
    resamples: usize,
) -> Option<Vec<(f64, f64)>> {
    let prompts = games.iter().map(|game| game.prompt).max()? + 1;
    let mut of_prompt = vec![Vec::new(); prompts];
    games.iter().for_each(|game| of_prompt[game.prompt].push(*game));
    of_prompt.retain(|games| !games.is_empty());
    let mut random = resampling();
    let mut fits = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let drawn: Vec<Game> = (0..of_prompt.len())
            .flat_map(|_| of_prompt[random.below(of_prompt.len())].iter().copied())
            .collect();
        fits.extend(fit(&drawn, players, with_covariate).ok());
    }
    if 2 * fits.len() < resamples {
        return None;
    }
    let of = |player: usize| percentiles(fits.iter().map(|fit| fit.strengths[player]).collect());
    Some((0..players).map(of).collect())
}
