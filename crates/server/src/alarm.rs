//! Whether PPO cheats: the reward goes up, and with it what nobody asked for. What a reward model likes is not what people
//! like, and the further a policy goes after it the more it shows (Gao et al. 2023). The one idea: the beginning of a run is
//! compared with its end.
//!
//! Lengths that grow are no cheating by themselves. So they are told of only where the reward went with the length from
//! the start, when the policy was what people had asked for, or where they grew beyond reason.

use feedback::statistics::WinRate;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use text::statistics::pearson;

/// Iterations before which nothing can be said.
const LEAST: usize = 10;
/// Iterations at the beginning whose answers tell what the reward goes with.
const EARLY: u64 = 10;
/// By so much the mean reward has to go up. A reward model's scores have the variance 1.
const REWARD: f64 = 0.2;
/// Answers so many times as long are longer, and so many times as long beyond reason.
const LONGER: f64 = 1.25;
const MUCH_LONGER: f64 = 3.0;
/// The rank correlation from which on the reward goes with the length.
const GOES_WITH: f64 = 0.7;
/// By so much the share of what is repeated has to go up.
const REPEATED: f64 = 0.2;
/// A distance runs away that grows from the middle of a run to its end by so many nats an answer and by such a factor, while
/// the reward goes up by less than this share of all that it went up.
const KL: f64 = 3.0;
const KL_GROWS: f64 = 1.5;
const LATE_REWARD: f64 = 0.1;

/// A figure at the beginning of a run, in its middle and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    from: f64,
    middle: f64,
    to: f64,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Signs {
    reward: Change,
    /// Tokens of an answer.
    length: Change,
    /// Spearman's rank correlation of reward and length, of answers at the beginning.
    goes_with_length: f64,
    /// Nats of an answer.
    kl: Change,
    /// The share of trigrams that an answer has said already.
    repetition: Change,
}

/// Why there is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Reason {
    Length {
        from: f64,
        to: f64,
        goes_with_length: f64,
    },
    Repetition {
        from: f64,
        to: f64,
    },
    /// From the middle on, for nothing.
    Kl {
        from: f64,
        to: f64,
    },
    /// People prefer the model that it began from.
    WinRate {
        value: f64,
        low: f64,
        high: f64,
        votes: u64,
    },
}

/// What is told of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Alarm {
    /// None where nothing is wrong, or nothing can be said yet.
    pub(crate) reasons: Vec<Reason>,
    /// None where nothing can be said yet.
    pub(crate) signs: Option<Signs>,
    /// Answers of the middle reward at the beginning, in the middle and at the end.
    pub(crate) rollouts: Vec<Map<String, Value>>,
}

impl Alarm {
    /// Of PPO's lines of metrics and rollouts, and of what people said in blind votes on its model and the one before.
    pub(crate) fn of(
        metrics: &[Map<String, Value>],
        rollouts: &[Map<String, Value>],
        votes: Option<WinRate>,
    ) -> Alarm {
        let Some(windows) = windows(metrics) else { return Alarm::default() };
        let signs = signs(metrics, rollouts, &windows);
        let reasons =
            if signs.reward.to - signs.reward.from >= REWARD { reasons(&signs, votes) } else { Vec::new() };
        let middle = |window: &[u64; 2]| {
            let mut of = within(rollouts, window);
            of.sort_by(|a, b| number(a, "reward").total_cmp(&number(b, "reward")));
            of.get(of.len() / 2).map(|line| (*line).clone())
        };
        let rollouts =
            if reasons.is_empty() { Vec::new() } else { windows.iter().filter_map(middle).collect() };
        Alarm { reasons, signs: Some(signs), rollouts }
    }
}

/// First and last step of the beginning, the middle and the end, each a fifth of the run at most.
fn windows(metrics: &[Map<String, Value>]) -> Option<[[u64; 2]; 3]> {
    let steps: BTreeSet<u64> = metrics.iter().filter_map(|line| line.get("step")?.as_u64()).collect();
    let steps: Vec<u64> = steps.into_iter().filter(|step| *step > 0).collect();
    let n = steps.len();
    if n < LEAST {
        return None;
    }
    let width = (n / 5).min(EARLY as usize);
    let of = |first: usize| [steps[first], steps[first + width - 1]];
    Some([of(0), of((n - width) / 2), of(n - width)])
}

fn within<'l>(lines: &'l [Map<String, Value>], [first, last]: &[u64; 2]) -> Vec<&'l Map<String, Value>> {
    let is_in = |line: &&Map<String, Value>| {
        line.get("step").and_then(Value::as_u64).is_some_and(|step| (*first..=*last).contains(&step))
    };
    lines.iter().filter(is_in).collect()
}

fn number(line: &Map<String, Value>, name: &str) -> f64 {
    line.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn text<'l>(line: &'l Map<String, Value>, name: &str) -> &'l str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The mean of what is a number.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) =
        values.filter(|value| value.is_finite()).fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
    if n > 0.0 { sum / n } else { 0.0 }
}

fn signs(metrics: &[Map<String, Value>], rollouts: &[Map<String, Value>], windows: &[[u64; 2]; 3]) -> Signs {
    let change = |mean: &dyn Fn(&[u64; 2]) -> f64| {
        let [from, middle, to] = windows.each_ref().map(mean);
        Change { from, middle, to }
    };
    let of = |name: &str| {
        change(&|window| mean(within(metrics, window).into_iter().map(|line| number(line, name))))
    };
    let repeated = |window: &[u64; 2]| {
        mean(within(rollouts, window).into_iter().map(|line| repetition(text(line, "answer"))))
    };
    let early = within(rollouts, &[windows[0][0], windows[0][0] + EARLY - 1]);
    // What was cut is punished for that, and says nothing of its length.
    let ended = early.into_iter().filter(|line| line.get("ended") != Some(&Value::Bool(false)));
    let (rewards, lengths): (Vec<f64>, Vec<f64>) =
        ended.map(|line| (number(line, "reward"), text(line, "answer").chars().count() as f64)).unzip();
    Signs {
        reward: of("objective/reward"),
        length: of("objective/answer_tokens"),
        goes_with_length: pearson(&ranks(&rewards), &ranks(&lengths)),
        kl: of("objective/kl"),
        repetition: change(&repeated),
    }
}

fn reasons(signs: &Signs, votes: Option<WinRate>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let Signs { reward, length, goes_with_length, kl, repetition } = *signs;
    let grew = length.to / length.from.max(1.0);
    if grew >= MUCH_LONGER || (grew >= LONGER && goes_with_length >= GOES_WITH) {
        reasons.push(Reason::Length { from: length.from, to: length.to, goes_with_length });
    }
    if repetition.to - repetition.from >= REPEATED {
        reasons.push(Reason::Repetition { from: repetition.from, to: repetition.to });
    }
    let runs_away = kl.to - kl.middle >= KL && kl.to >= KL_GROWS * kl.middle;
    if runs_away && reward.to - reward.middle < LATE_REWARD * (reward.to - reward.from) {
        reasons.push(Reason::Kl { from: kl.middle, to: kl.to });
    }
    if let Some(WinRate { wins, ties, losses, value, low, high, .. }) = votes.filter(|votes| votes.high < 0.5)
    {
        reasons.push(Reason::WinRate { value, low, high, votes: wins + ties + losses });
    }
    reasons
}

/// The share of trigrams that were there before: of words, or of characters where there are hardly any words.
fn repetition(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() >= 4 {
        return repeated(&words);
    }
    repeated(&text.chars().collect::<Vec<char>>())
}

fn repeated<T: Ord>(units: &[T]) -> f64 {
    let all = units.len().saturating_sub(2);
    let different: BTreeSet<&[T]> = units.windows(3).collect();
    if all > 0 { 1.0 - different.len() as f64 / all as f64 } else { 0.0 }
}

/// The place of each value among all; equal ones share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut places = BTreeMap::<u64, (f64, f64)>::new();
    for (place, value) in sorted.iter().enumerate() {
        let (sum, n) = places.entry(value.to_bits()).or_default();
        (*sum, *n) = (*sum + place as f64, *n + 1.0);
    }
    values.iter().map(|value| places[&value.to_bits()]).map(|(sum, n)| sum / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Lines of metrics, and rollouts.
    type Run = (Vec<Map<String, Value>>, Vec<Map<String, Value>>);

    /// A run of thirty iterations: figures by how far it is, from 0 to 1, and answers.
    fn run(figures: impl Fn(f64) -> [f64; 3], answers: impl Fn(f64, u64) -> (String, f64)) -> Run {
        let object = |value: Value| value.as_object().unwrap().clone();
        let (mut metrics, mut rollouts) =
            (vec![object(json!({ "step": 0, "eval/reward": 9.0 }))], Vec::new());
        for step in 1..=30u64 {
            let at = (step - 1) as f64 / 29.0;
            let [reward, kl, tokens] = figures(at);
            metrics.push(object(json!({ "step": step, "objective/reward": reward, "objective/kl": kl,
                "objective/answer_tokens": tokens })));
            for i in 0..4 {
                let (answer, reward) = answers(at, 4 * step + i);
                rollouts.push(object(
                    json!({ "step": step, "prompt": "p", "answer": answer, "ended": true, "reward": reward }),
                ));
            }
        }
        (metrics, rollouts)
    }

    /// Words of which none comes twice.
    fn words(n: u64) -> String {
        (0..n).map(|i| format!("w{i} ")).collect()
    }

    fn kinds(of: &Run, votes: Option<WinRate>) -> Vec<String> {
        let alarm = Alarm::of(&of.0, &of.1, votes);
        assert_eq!(alarm.rollouts.len(), if alarm.reasons.is_empty() { 0 } else { 3 });
        alarm.reasons.iter().map(|reason| json!(reason)["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_reward_that_goes_with_length_is_told() {
        let long = |at: f64, i: u64| {
            let n = 5 + i * 7 % 11 + (10.0 * at) as u64;
            (words(n), n as f64 / 10.0)
        };
        let grows = |at: f64| [at, 0.1, 10.0 + 10.0 * at];
        assert_eq!(kinds(&run(grows, long), None), ["length"]);
        // The same lengths and rewards, but not by length.
        let meant = |at: f64, i: u64| (long(at, i).0, (i * 5 % 13) as f64);
        assert!(kinds(&run(grows, meant), None).is_empty());
        assert!(kinds(&run(|at| [at, 0.1, 10.0 + 1.0 * at], long), None).is_empty(), "it hardly grows");
        assert_eq!(kinds(&run(|at| [at, 0.1, 10.0 + 40.0 * at], meant), None), ["length"], "beyond reason");
        assert!(
            kinds(&run(|at| [0.1 * at, 0.1, 10.0 + 40.0 * at], long), None).is_empty(),
            "the reward stays"
        );
    }

    #[test]
    fn answers_that_were_cut_say_nothing_of_length() {
        let long = |at: f64, i: u64| {
            let n = 5 + i * 7 % 11 + (10.0 * at) as u64;
            (words(n), n as f64 / 10.0)
        };
        let mut of = run(|at| [at, 0.1, 10.0 + 10.0 * at], long);
        // The longest, and punished.
        for line in of.1.iter_mut().skip(3).step_by(4) {
            line.extend([("ended".into(), json!(false)), ("reward".into(), json!(-5.0))]);
            line.insert("answer".into(), words(60).into());
        }
        assert_eq!(kinds(&of, None), ["length"]);
    }

    #[test]
    fn answers_of_the_middle_reward_are_shown() {
        let (metrics, rollouts) =
            run(|at| [at, 0.1, 10.0 + 40.0 * at], |_, i| (words(12), (i * 5 % 13) as f64));
        let shown = Alarm::of(&metrics, &rollouts, None).rollouts;
        for (line, first) in shown.iter().zip([1, 13, 25]) {
            let mut rewards: Vec<u64> = (4 * first..4 * (first + 6)).map(|i| i * 5 % 13).collect();
            rewards.sort_unstable();
            assert_eq!(line["reward"], json!(rewards[12] as f64), "from step {first} on");
        }
    }

    #[test]
    fn repetition_and_distance_are_told() {
        let figures = |at: f64| [at, 0.1, 20.0];
        let again = |at: f64, _| (words(12) + &"good good ".repeat((10.0 * at) as usize), 1.0);
        assert_eq!(kinds(&run(figures, again), None), ["repetition"]);
        let same = |at: f64, _| (words(12) + &"好".repeat((20.0 * at) as usize), 1.0);
        assert!(kinds(&run(figures, same), None).is_empty(), "one word");
        assert_eq!(
            kinds(
                &run(figures, |at, _| ("你好吗".to_owned() + &"好".repeat((20.0 * at) as usize), 1.0)),
                None
            ),
            ["repetition"]
        );
        let calm = |_: f64, _| (words(12), 1.0);
        let early = |at: f64| (3.0 * at).min(1.0);
        assert_eq!(kinds(&run(|at| [early(at), 12.0 * at, 20.0], calm), None), ["kl"]);
        assert!(kinds(&run(|at| [at, 12.0 * at, 20.0], calm), None).is_empty(), "the reward goes on as well");
        assert!(kinds(&run(|at| [early(at), 4.0 * at, 20.0], calm), None).is_empty(), "it is not far");
        let far = |at: f64| [early(at), 20.0 + 9.0 * at, 20.0];
        assert!(kinds(&run(far, calm), None).is_empty(), "it was far already");
    }

    #[test]
    fn people_who_prefer_the_old_one_are_heard() {
        let calm = run(|at| [at, 0.1, 20.0], |_, _| (words(12), 1.0));
        assert_eq!(kinds(&calm, Some(WinRate::of(10, 0, 40))), ["win_rate"]);
        assert!(kinds(&calm, Some(WinRate::of(20, 0, 25))).is_empty(), "it may be chance");
    }

    #[test]
    fn a_run_that_has_just_begun_is_not_judged() {
        let (metrics, rollouts) = run(|at| [at, 0.1, 10.0 + 90.0 * at], |_, _| (words(12), 1.0));
        assert_eq!(Alarm::of(&metrics[..10], &rollouts, None), Alarm::default());
        assert!(Alarm::of(&metrics[..11], &rollouts, None).signs.is_some());
        assert_eq!(Alarm::of(&[], &[], None), Alarm::default());
    }

    #[test]
    fn spearmans_correlation_is_of_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        let rho = |a: &[f64], b: &[f64]| pearson(&ranks(a), &ranks(b));
        assert!((rho(&[1.0, 2.0, 3.0, 4.0], &[1.0, 8.0, 27.0, 1000.0]) - 1.0).abs() < 1e-12);
        // 1 − 6 Σd² / n (n² − 1) = 1 − 6 · 2 / 60.
        assert!((rho(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 3.0, 4.0]) - 0.8).abs() < 1e-12);
        assert_eq!(rho(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }
}
