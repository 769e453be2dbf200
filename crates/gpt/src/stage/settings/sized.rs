//! The shape and the schedule for what a pretraining may cost.
//!
//! Shapes, rates and batches are those of the presets and what lies between them. A shape learns best from so many
//! tokens a parameter, so that a budget of operations decides its size; data that would have to be read too often
//! decides it instead.

use super::{Settings, Shape};
use crate::model::Config;
use anyhow::{Context, Result, ensure};

/// Tokens for each parameter (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models").
const TOKENS_PER_PARAMETER: f64 = 20.0;
/// Epochs that teach about as much as new text (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
const GOOD_EPOCHS: f64 = 4.0;
/// Epochs beyond which nothing more is learned (the same).
const MOST_EPOCHS: f64 = 16.0;
/// Fewer steps teach nothing.
const LEAST_STEPS: u64 = 20;
/// From fewer tokens the smallest models learn more in shorter windows (docs/RESULTS.md, "Which shape for five minutes").
const FEW_TOKENS: f64 = 2.5e6;
/// Windows of a step at least.
const LEAST_WINDOWS: f64 = 4.0;

/// Width and layers, smallest first: those of the presets, and some between.
const SHAPES: [(usize, usize); 15] = [
    (64, 2),
    (96, 3),
    (128, 4),
    (192, 4),
    (256, 5),
    (320, 5),
    (384, 6),
    (512, 8),
    (640, 10),
    (768, 12),
    (896, 16),
    (1024, 24),
    (1280, 36),
    (1600, 48),
    (2048, 48),
];

/// Highest learning rates by width: the presets'.
const RATES: [(f64, f64); 7] = [
    (64.0, 3e-3),
    (192.0, 2e-3),
    (384.0, 1e-3),
    (768.0, 6e-4),
    (1024.0, 3e-4),
    (1600.0, 2e-4),
    (2048.0, 2e-4),
];

/// Tokens of a step by tokens of the training: the presets `nano` and `gpt2`, and what shorter ones learned most with
/// (docs/RESULTS.md, "Which shape for five minutes").
const BATCHES: [(f64, f64); 5] =
    [(0.3e6, 256.0), (1.3e6, 768.0), (4e6, 1792.0), (8.2e6, 2048.0), (10.5e9, 524_288.0)];

/// What was chosen, and why.
#[derive(Clone, Debug)]
pub struct Sized {
    /// Of the model.
    pub shape: Shape,
    /// Of the training.
    pub settings: Settings,
    /// A line for each choice.
    pub why: Vec<String>,
}

/// Chooses for what `flops` says a model of a shape may cost, where it learns from `tokens` different ones, if that is
/// known; `changes` are made to what was chosen.
///
/// # Errors
/// The budget is too small for the smallest shape; a change is none.
pub fn sized(
    mut flops: impl FnMut(&Config) -> f64,
    vocab_size: usize,
    tokens: Option<u64>,
    changes: &[String],
) -> Result<Sized> {
    let seen = tokens.map_or(f64::INFINITY, |tokens| tokens as f64);
    let is_good = |of: &&Tried| of.tokens <= GOOD_EPOCHS * seen;
    let is_enough = |of: &&Tried| of.per_parameter() >= TOKENS_PER_PARAMETER / 4.0;
    let mut tried: Vec<Tried> = Vec::new();
    for (width, layers) in SHAPES {
        let now = Tried::new(width, layers, vocab_size, seen, &mut flops)?;
        // A larger one would have too few tokens.
        let is_last = !is_enough(&&now) || now.per_parameter() < TOKENS_PER_PARAMETER && is_good(&&now);
        tried.push(now);
        if is_last {
            break;
        }
    }
    let near = |of: &&Tried| (of.per_parameter() / TOKENS_PER_PARAMETER).ln().abs();
    let by_size = tried.iter().min_by(|a, b| near(a).total_cmp(&near(b))).context("there are shapes")?;
    // Larger ones read the data less often; beyond so few tokens a parameter they learn no more.
    let mut larger = tried.iter().filter(|of| of.parameters >= by_size.parameters).filter(is_enough);
    let chosen = larger.clone().find(is_good).or(larger.next_back()).unwrap_or(by_size);
    chosen.recipe(seen, chosen.parameters > by_size.parameters, changes)
}

/// A shape and what the budget makes of it.
struct Tried {
    width: usize,
    layers: usize,
    parameters: f64,
    /// That it may cost.
    flops: f64,
    /// That it can read for that.
    tokens: f64,
    /// Those of them that teach something.
    useful: f64,
}

impl Tried {
    fn new(
        width: usize,
        layers: usize,
        vocab_size: usize,
        seen: f64,
        flops: &mut impl FnMut(&Config) -> f64,
    ) -> Result<Tried> {
        let (shape, settings) = Settings::of_table(shape_table(width, layers), "the chosen shape", &[])?;
        let config = shape.config(vocab_size, &settings);
        let may_cost = flops(&config);
        let tokens = may_cost / config.training_flops_per_token();
        let (parameters, useful) = (config.parameters() as f64, tokens.min(MOST_EPOCHS * seen));
        Ok(Tried { width, layers, parameters, flops: may_cost, tokens, useful })
    }

    fn per_parameter(&self) -> f64 {
        self.useful / self.parameters
    }

    fn recipe(&self, seen: f64, is_short_of_data: bool, changes: &[String]) -> Result<Sized> {
        let &Tried { width, layers, parameters, flops, useful: tokens, .. } = self;
        let mut table = shape_table(width, layers);
        let window = seq_len(width, tokens);
        let seq_len = window as f64;
        let lr = between(&RATES, width as f64);
        let batch = (between(&BATCHES, tokens) / seq_len).round().max(LEAST_WINDOWS) * seq_len;
        let steps = (tokens / batch).round() as u64;
        let is_left = tokens < 0.99 * self.tokens;
        ensure!(
            steps >= LEAST_STEPS || !is_left,
            "the data has {seen} tokens, and {steps} steps read them {MOST_EPOCHS} times: give more text"
        );
        ensure!(
            steps >= LEAST_STEPS,
            "{flops:.1e} operations are {steps} steps of the smallest model that is worth a training: give ten times as many"
        );
        let often = |times: u64| (steps / times).max(1) as i64;
        table.insert("lr".into(), rounded(lr).into());
        for (key, value) in [
            ("seq_len", window as i64),
            ("batch_tokens", batch as i64),
            ("steps", steps as i64),
            ("warmup_steps", (steps / 40).clamp(10, 2000) as i64),
            ("eval_every", often(20)),
            ("checkpoint_every", often(10)),
            ("sample_every", often(10)),
        ] {
            table.insert(key.into(), value.into());
        }
        let mut why = vec![
            format!(
                "{layers} layers of {width}, {:.2} million parameters: {flops:.2e} operations are {:.1} million tokens of it, \
                 {:.0} a parameter{}",
                parameters / 1e6,
                self.tokens / 1e6,
                self.per_parameter(),
                match is_short_of_data {
                    true => ", fewer than are best, since a smaller one would read the data too often",
                    false => " (about 20 are best: Hoffmann et al. 2022)",
                }
            ),
            format!(
                "{steps} steps of {batch} tokens, a rate of {}: what presets of this size have",
                rounded(lr)
            ),
        ];
        if seen.is_finite() {
            why.push(format!("the data has {:.1} million tokens: {:.1} epochs", seen / 1e6, tokens / seen));
        }
        if is_left {
            why.push(format!(
                "{:.0} % of the budget is left: beyond {MOST_EPOCHS} epochs nothing more is learned; more text would help",
                100.0 * (1.0 - tokens / self.tokens)
            ));
        }
        let (shape, settings) = Settings::of_table(table, "the chosen recipe", changes)?;
        Ok(Sized { shape, settings, why })
    }
}

/// Tokens of the context of a model that learns from so many.
fn seq_len(width: usize, tokens: f64) -> usize {
    match width {
        0..=64 if tokens < FEW_TOKENS => 64,
        0..=128 => 128,
        129..=512 => 256,
        513..=640 => 512,
        _ => 1024,
    }
}

/// Heads of 64 values, of 32 where there would be one; of keys and values a third of them, or the next fewer by which they can be divided.
fn shape_table(width: usize, layers: usize) -> toml::Table {
    let heads = if width < 128 { width / 32 } else { width / 64 };
    let kv_heads = (1..=heads.div_ceil(3)).rev().find(|kv| heads.is_multiple_of(*kv)).unwrap_or(1);
    let mut table = toml::Table::from_iter([
        ("family".to_owned(), "modern".into()),
        ("qk_norm".to_owned(), true.into()),
        ("lr".to_owned(), 1e-3.into()),
    ]);
    let numbers = [
        ("n_layer", layers),
        ("n_head", heads),
        ("n_kv_head", kv_heads),
        ("d_model", width),
        ("seq_len", seq_len(width, f64::INFINITY)),
        ("batch_tokens", seq_len(width, f64::INFINITY)),
        ("steps", 1),
        ("warmup_steps", 0),
        ("eval_every", 1),
        ("checkpoint_every", 1),
        ("sample_every", 1),
    ];
    table.extend(numbers.map(|(key, value)| (key.to_owned(), (value as i64).into())));
    table
}

/// What lies between two points of a curve, where both axes are logarithmic; beyond its ends it goes on as it ended.
fn between(curve: &[(f64, f64)], x: f64) -> f64 {
    let last = curve.len() - 2;
    let at = curve.iter().skip(1).position(|(right, _)| x <= *right).unwrap_or(last).min(last);
    let [(x0, y0), (x1, y1)] = [curve[at], curve[at + 1]];
    y0 * (y1 / y0).powf((x / x0).ln() / (x1 / x0).ln())
}

/// Two digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(flops: f64, tokens: Option<u64>) -> Sized {
        sized(|_| flops, 2048, tokens, &[]).unwrap()
    }

    fn config(of: &Sized) -> Config {
        of.shape.config(2048, &of.settings)
    }

    fn trained(of: &Sized) -> f64 {
        (of.settings.steps * of.settings.batch_tokens as u64) as f64
    }

    #[test]
    fn a_budget_is_spent_on_a_model_of_its_size() {
        let mut before = 0;
        for flops in [1e13, 1e14, 1e16, 1e18, 1e20] {
            let chosen = choice(flops, None);
            let config = config(&chosen);
            let spent = trained(&chosen) * config.training_flops_per_token();
            assert!((spent / flops - 1.0).abs() < 0.03, "{flops:e}: {spent:e}");
            let per_parameter = trained(&chosen) / config.parameters() as f64;
            assert!((6.0..66.0).contains(&per_parameter), "{flops:e}: {per_parameter}");
            assert!(config.parameters() > before, "{flops:e}");
            before = config.parameters();
            assert!(chosen.settings.warmup_steps < chosen.settings.steps / 2);
        }
    }

    #[test]
    fn presets_lie_on_the_curves() {
        for (name, tokens) in [("modern-nano", 8.2e6), ("modern-small", 10.5e9)] {
            let (shape, settings) = Settings::resolve(name, &[]).unwrap();
            let width = shape.config(2048, &settings).d_model;
            assert_eq!(rounded(between(&RATES, width as f64)), settings.lr, "{name}");
            assert_eq!(between(&BATCHES, tokens).round() as usize, settings.batch_tokens, "{name}");
            let layers = SHAPES.iter().find(|of| of.0 == width).unwrap().1;
            let (chosen, _) = Settings::of_table(shape_table(width, layers), "", &[]).unwrap();
            let like = |shape: &Shape| {
                let c = shape.config(2048, &settings);
                (c.n_layer, c.n_head, c.n_kv_head, c.d_model, c.qk_norm)
            };
            assert_eq!(like(&chosen), like(&shape), "{name}");
        }
    }

    #[test]
    fn short_trainings_take_small_steps_and_windows() {
        let [short, longer] = [2e12, 6e12].map(|flops| choice(flops, None));
        assert_eq!(
            [&short, &longer].map(|of| (config(of).d_model, of.settings.seq_len)),
            [(64, 64), (64, 128)]
        );
        assert!((1e6..2.5e6).contains(&trained(&short)) && trained(&longer) > 2.5e6);
        assert!((640..=1024).contains(&short.settings.batch_tokens), "{:?}", short.settings);
        assert!((1536..=1920).contains(&longer.settings.batch_tokens), "{:?}", longer.settings);
    }

    #[test]
    fn little_data_is_read_by_a_larger_model() {
        let [much, little, tiny] = [None, Some(300_000), Some(20_000)].map(|tokens| choice(1e13, tokens));
        let parameters = |of: &Sized| config(of).parameters();
        assert!(parameters(&little) > parameters(&much));
        assert!(trained(&little) < trained(&much));
        assert!(trained(&tiny) <= 16.0 * 20_000.0 * 1.05, "{}", trained(&tiny));
        assert!(tiny.why.iter().any(|line| line.contains("of the budget is left")), "{:?}", tiny.why);
        assert!(little.why[0].contains("too often"), "{:?}", little.why);
        // No budget makes a large model of next to nothing, nor is one tried.
        let mut largest = 0;
        let tried = |config: &Config| {
            largest = largest.max(config.parameters());
            1e16
        };
        let rich = sized(tried, 2048, Some(20_000), &[]).unwrap();
        assert_eq!(config(&rich).d_model, 64);
        assert!(largest < 1_000_000, "{largest}");
        let error = sized(|_| 1e16, 2048, Some(100), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("give more text"), "{error:#}");
    }

    #[test]
    fn what_was_chosen_can_be_changed_and_too_little_is_refused() {
        let changed = sized(|_| 1e13, 2048, None, &["lr=5e-4".into(), "n_layer=3".into()]).unwrap();
        assert_eq!((changed.settings.lr, config(&changed).n_layer), (5e-4, 3));
        let error = sized(|_| 1e9, 2048, None, &[]).unwrap_err();
        assert!(format!("{error:#}").contains("give ten times as many"), "{error:#}");
        assert!(sized(|_| 1e13, 2048, None, &["nothing=1".into()]).is_err());
    }
}
