//! The shape and the schedule for what a pretraining may cost.
//!
//! Shapes, rates and batches are those of the presets and what lies between them. A shape learns best from so many
//! tokens a parameter, so that a budget of operations decides its size; data that would have to be read too often
//! decides it instead.

use super::{Settings, Shape};
use crate::model::{Config, Method};
use anyhow::{Context, Result, ensure};

/// Tokens for each parameter (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models").
const TOKENS_PER_PARAMETER: f64 = 20.0;
/// Epochs that teach about as much as new text (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
const GOOD_EPOCHS: f64 = 4.0;
/// Epochs beyond which nothing more is learned (the same).
const MOST_EPOCHS: f64 = 16.0;
/// Fewer steps teach nothing.
const LEAST_STEPS: u64 = 20;
/// From fewer tokens small models learn more in windows half as long (docs/RESULTS.md, "Which shape for five minutes").
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

/// What learns, where nothing else is said: it learns most in any time (docs/RESULTS.md, "Muon").
const METHOD: Method = Method::Muon;

/// Highest learning rates of AdamW by width: the presets'.
const ADAMW_RATES: [(f64, f64); 7] = [
    (64.0, 3e-3),
    (192.0, 2e-3),
    (384.0, 1e-3),
    (768.0, 6e-4),
    (1024.0, 3e-4),
    (1600.0, 2e-4),
    (2048.0, 2e-4),
];

/// Those of Muon: of the rates that were tried for models of 64, 192 and 384, each learned most with one over its width
/// (docs/RESULTS.md, "Muon").
const MUON_RATES: [(f64, f64); 2] = [(64.0, 2.4e-2), (384.0, 4e-3)];

/// Tokens of a step of AdamW by tokens of the training: the presets `nano` and `gpt2`, and what shorter ones learned most
/// with (docs/RESULTS.md, "Which shape for five minutes").
const ADAMW_BATCHES: [(f64, f64); 5] =
    [(0.3e6, 256.0), (1.3e6, 768.0), (4e6, 1792.0), (8.2e6, 2048.0), (10.5e9, 524_288.0)];

/// Those of Muon, whose steps are dearer and learn more from many tokens (the same); the last is that of AdamW.
const MUON_BATCHES: [(f64, f64); 3] = [(1.3e6, 2560.0), (4e6, 5120.0), (10.5e9, 524_288.0)];

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

/// What a training may cost, and what its parts do, all in one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Of the whole training.
    pub budget: f64,
    /// Of a token, on its way forward and back.
    pub token: f64,
    /// Of an update of the weights, however many tokens it learns from.
    pub update: f64,
}

/// Chooses for what `cost` says of a model's shape and its optimizer, where it learns from `tokens` different ones, if that
/// is known; `changes` are made to what was chosen.
///
/// # Errors
/// The budget is too small for the smallest shape; a change is none.
pub fn sized(
    mut cost: impl FnMut(&Config, Method) -> Cost,
    vocab_size: usize,
    tokens: Option<u64>,
    changes: &[String],
) -> Result<Sized> {
    let method = recipe_of(shape_table(SHAPES[0].0, SHAPES[0].1, METHOD), changes)?.1.optimizer;
    let seen = tokens.map_or(f64::INFINITY, |tokens| tokens as f64);
    let is_good = |of: &&Tried| of.tokens <= GOOD_EPOCHS * seen;
    let is_enough = |of: &&Tried| of.per_parameter() >= TOKENS_PER_PARAMETER / 4.0;
    let mut tried: Vec<Tried> = Vec::new();
    for (width, layers) in SHAPES {
        let now = Tried::new((width, layers), method, vocab_size, seen, &mut cost)?;
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
    method: Method,
    parameters: f64,
    /// Operations of a token and of an update.
    flops: [f64; 2],
    /// That it can read for what it may cost.
    tokens: f64,
    /// Those of them that teach something.
    useful: f64,
}

impl Tried {
    fn new(
        (width, layers): (usize, usize),
        method: Method,
        vocab_size: usize,
        seen: f64,
        cost: &mut impl FnMut(&Config, Method) -> Cost,
    ) -> Result<Tried> {
        let (shape, settings) = recipe_of(shape_table(width, layers, method), &[])?;
        let config = shape.config(vocab_size, &settings);
        let Cost { budget, token, update } = cost(&config, method);
        let useful = |tokens: f64| tokens.min(MOST_EPOCHS * seen);
        let mut tokens = budget / token;
        // Fewer tokens make smaller steps, in which updates weigh more.
        for _ in 0..10 {
            tokens = budget / (token + update / batch_tokens(method, width, useful(tokens)));
        }
        let flops = [config.training_flops_per_token(), method.update_flops(&config)];
        let parameters = config.parameters() as f64;
        Ok(Tried { width, layers, method, parameters, flops, tokens, useful: useful(tokens) })
    }

    fn per_parameter(&self) -> f64 {
        self.useful / self.parameters
    }

    fn recipe(&self, seen: f64, is_short_of_data: bool, changes: &[String]) -> Result<Sized> {
        let &Tried { width, layers, method, parameters, useful: tokens, .. } = self;
        let mut table = shape_table(width, layers, method);
        let lr = between(rates(method), width as f64);
        let batch = batch_tokens(method, width, tokens);
        let steps = (tokens / batch).round() as u64;
        let flops = self.tokens * (self.flops[0] + self.flops[1] / batch);
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
            ("seq_len", seq_len(width, tokens) as i64),
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
            format!("{steps} steps of {batch} tokens by {method}, a rate of {}", rounded(lr)),
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
        let (shape, settings) = recipe_of(table, changes)?;
        Ok(Sized { shape, settings, why })
    }
}

/// Tokens of a step of a training by so many: whole windows.
fn batch_tokens(method: Method, width: usize, tokens: f64) -> f64 {
    let seq_len = seq_len(width, tokens) as f64;
    (between(batches(method), tokens) / seq_len).round().max(LEAST_WINDOWS) * seq_len
}

/// Tokens of the context of a model that learns from so many.
fn seq_len(width: usize, tokens: f64) -> usize {
    let usual = match width {
        0..=128 => 128,
        129..=512 => 256,
        513..=640 => 512,
        _ => 1024,
    };
    if width <= 512 && tokens < FEW_TOKENS { usual / 2 } else { usual }
}

fn rates(method: Method) -> &'static [(f64, f64)] {
    match method {
        Method::AdamW => &ADAMW_RATES,
        Method::Muon => &MUON_RATES,
    }
}

fn batches(method: Method) -> &'static [(f64, f64)] {
    match method {
        Method::AdamW => &ADAMW_BATCHES,
        Method::Muon => &MUON_BATCHES,
    }
}

fn recipe_of(table: toml::Table, changes: &[String]) -> Result<(Shape, Settings)> {
    Settings::of_table(table, "the chosen recipe", changes)
}

/// Heads of 64 values, of 32 where there would be one; of keys and values a third of them, or the next fewer by which they can be divided.
fn shape_table(width: usize, layers: usize, method: Method) -> toml::Table {
    let heads = if width < 128 { width / 32 } else { width / 64 };
    let kv_heads = (1..=heads.div_ceil(3)).rev().find(|kv| heads.is_multiple_of(*kv)).unwrap_or(1);
    let mut table = toml::Table::from_iter([
        ("family".to_owned(), "modern".into()),
        ("qk_norm".to_owned(), true.into()),
        ("optimizer".to_owned(), method.to_string().into()),
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

    fn flops(budget: f64) -> impl Fn(&Config, Method) -> Cost {
        move |c, method| Cost { budget, token: c.training_flops_per_token(), update: method.update_flops(c) }
    }

    fn choice(budget: f64, tokens: Option<u64>) -> Sized {
        sized(flops(budget), 2048, tokens, &[]).unwrap()
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
        for budget in [1e13, 1e14, 1e16, 1e18, 1e20] {
            let chosen = choice(budget, None);
            let config = config(&chosen);
            let updates = chosen.settings.steps as f64 * Method::Muon.update_flops(&config);
            let spent = trained(&chosen) * config.training_flops_per_token() + updates;
            assert!((spent / budget - 1.0).abs() < 0.03, "{budget:e}: {spent:e}");
            let per_parameter = trained(&chosen) / config.parameters() as f64;
            assert!((6.0..66.0).contains(&per_parameter), "{budget:e}: {per_parameter}");
            assert!(config.parameters() > before, "{budget:e}");
            before = config.parameters();
            assert!(chosen.settings.warmup_steps < chosen.settings.steps / 2);
        }
    }

    #[test]
    fn presets_lie_on_the_curves() {
        for (name, tokens) in [("modern-nano", 8.2e6), ("modern-small", 10.5e9)] {
            let (shape, settings) = Settings::resolve(name, &[]).unwrap();
            let width = shape.config(2048, &settings).d_model;
            assert_eq!(rounded(between(rates(Method::AdamW), width as f64)), settings.lr, "{name}");
            assert_eq!(
                between(batches(Method::AdamW), tokens).round() as usize,
                settings.batch_tokens,
                "{name}"
            );
            let layers = SHAPES.iter().find(|of| of.0 == width).unwrap().1;
            let (chosen, _) = recipe_of(shape_table(width, layers, Method::AdamW), &[]).unwrap();
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
        assert!((2048..=3072).contains(&short.settings.batch_tokens), "{:?}", short.settings);
        assert!((4096..=5632).contains(&longer.settings.batch_tokens), "{:?}", longer.settings);
        assert_eq!([&short, &longer].map(|of| of.settings.lr), [2.4e-2; 2]);
        let windows =
            [(128, 1e6), (192, 1e6), (192, 4e6), (640, 1e6)].map(|(width, tokens)| seq_len(width, tokens));
        assert_eq!(windows, [64, 128, 256, 512]);
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
        let tried = |config: &Config, method| {
            largest = largest.max(config.parameters());
            flops(1e16)(config, method)
        };
        let rich = sized(tried, 2048, Some(20_000), &[]).unwrap();
        assert_eq!(config(&rich).d_model, 64);
        assert!(largest < 1_000_000, "{largest}");
        let error = sized(flops(1e16), 2048, Some(100), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("give more text"), "{error:#}");
    }

    #[test]
    fn another_optimizer_has_its_own_rate_and_price() {
        let of = |changes: &[String]| sized(flops(1e15), 2048, None, changes).unwrap();
        let [muon, adamw] = [of(&[]), of(&["optimizer=adamw".into()])];
        assert_eq!([&muon, &adamw].map(|of| of.settings.optimizer), [Method::Muon, Method::AdamW]);
        assert_eq!(config(&muon).d_model, config(&adamw).d_model);
        assert!(muon.settings.lr > 2.0 * adamw.settings.lr);
        assert!(trained(&muon) < 0.995 * trained(&adamw) && trained(&muon) > 0.5 * trained(&adamw));
    }

    #[test]
    fn what_was_chosen_can_be_changed_and_too_little_is_refused() {
        let changed = sized(flops(1e13), 2048, None, &["lr=5e-4".into(), "n_layer=3".into()]).unwrap();
        assert_eq!((changed.settings.lr, config(&changed).n_layer), (5e-4, 3));
        let error = sized(flops(1e9), 2048, None, &[]).unwrap_err();
        assert!(format!("{error:#}").contains("give ten times as many"), "{error:#}");
        assert!(sized(flops(1e13), 2048, None, &["nothing=1".into()]).is_err());
    }
}
