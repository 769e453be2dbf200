//! All of it, for the owner of a store.

use serde::Serialize;
use std::collections::BTreeMap;

use super::bradley_terry::{Fit, Game, NoFit, fit, intervals};
use super::{Agreement, WinRate, agreement, ordinal_alpha};
use crate::order::Rule;

/// Fewer items that two raters ranked say nothing.
const DOUBLE: usize = 20;
/// Resamples for the intervals of strengths.
const RESAMPLES: usize = 200;

/// What a store's ratings say. All of it is of items that were chosen at random: those that reward models chose
/// are harder than others.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Items that wait for raters, or did.
    pub items: i64,
    /// Ratings that count, without skipped items and repeats.
    pub ratings: usize,
    /// Of these, those that say that all answers are bad.
    pub all_bad: usize,
    /// Why items were skipped, and how often.
    pub skipped: BTreeMap<String, u64>,
    /// Ratings that are left out here, since reward models chose their items.
    pub chosen: usize,
    /// By rater.
    pub raters: Vec<RaterLine>,
    /// Items that two raters ranked.
    pub double_rated: usize,
    /// How many more of these are needed before agreement is told.
    pub double_rated_missing: usize,
    /// Krippendorff's α of ranks.
    pub alpha: Option<f64>,
    /// How often two raters say the same of two answers. InstructGPT's labellers agreed in 72.6 ± 1.5 % (Ouyang et al. 2022).
    pub agreement: Option<Agreement>,
    /// By model, the strongest first.
    pub models: Vec<ModelLine>,
    /// What a length's factor of e is worth to raters, in units of strength.
    pub length: Option<f64>,
    /// Why models have no strengths.
    pub no_strengths: Option<&'static str>,
    /// What was said of two models whose names nobody was told, by pairs: those with the most votes first.
    pub votes: Vec<Votes>,
}

/// Blind votes on two models.
#[derive(Clone, Debug, Serialize)]
pub struct Votes {
    /// The model that is preferred more often.
    pub model: String,
    /// The other one.
    pub other: String,
    /// How often the one is preferred.
    #[serde(flatten)]
    pub rate: WinRate,
}

/// A rater.
#[derive(Clone, Debug, Serialize)]
pub struct RaterLine {
    /// The name.
    pub name: String,
    /// Items ranked.
    pub rated: usize,
    /// Items skipped.
    pub skipped: usize,
    /// The middle one of the times that items took, in seconds.
    pub seconds: Option<f64>,
    /// How often the others say the same.
    pub with_others: Option<Agreement>,
    /// How often the rater says the same of an item the second time.
    pub with_self: Option<Agreement>,
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelLine {
    /// The name.
    pub name: String,
    /// Answers compared with those of others.
    pub comparisons: usize,
    /// The strength (Bradley & Terry 1952): σ of a difference is the chance to be preferred.
    pub strength: f64,
    /// Its interval of 95 %.
    pub interval: Option<(f64, f64)>,
    /// The strength if all answers were equally long.
    pub length_controlled: Option<f64>,
}

/// A rating that counts.
#[derive(Clone, Debug)]
pub(crate) struct Rated {
    pub(crate) item: i64,
    /// The name.
    pub(crate) rater: String,
    pub(crate) rule: Rule,
    /// By answer; none where the item was skipped.
    pub(crate) ranks: Option<Vec<u32>>,
    pub(crate) all_bad: bool,
    pub(crate) skipped: Option<String>,
    pub(crate) seconds: f64,
}

/// An item that was rated.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Each answer, with the names of the models that gave it.
    pub(crate) answers: Vec<(String, Vec<String>)>,
}

/// What is in a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Items that wait for raters, or did.
    pub(crate) waiting: i64,
    /// The ratings that count, in the order in which they were given.
    pub(crate) rated: Vec<Rated>,
    /// The items that they are of.
    pub(crate) items: BTreeMap<i64, Item>,
    /// Everybody who may rank, the owner first.
    pub(crate) raters: Vec<String>,
}

impl Rated {
    /// Ranks that compare answers.
    fn compared(&self) -> Option<&[u32]> {
        self.ranks.as_deref().filter(|_| !self.all_bad)
    }

    fn is_first(&self) -> bool {
        self.rule != Rule::Repeat
    }
}

impl Report {
    /// What is said.
    pub(crate) fn of(said: &Said) -> Report {
        let firsts: Vec<&Rated> = said.rated.iter().filter(|rated| rated.is_first()).collect();
        let fair: Vec<&Rated> =
            firsts.iter().copied().filter(|rated| rated.rule != Rule::Disagreement).collect();
        let mut by_item = BTreeMap::<i64, Vec<&Rated>>::new();
        for rated in fair.iter().filter(|rated| rated.compared().is_some()) {
            by_item.entry(rated.item).or_default().push(rated);
        }
        by_item.retain(|_, rated| rated.len() > 1);
        let double_rated = by_item.len();
        let is_enough = double_rated >= DOUBLE;
        let units = |rated: &Vec<&Rated>| -> Vec<Vec<u32>> {
            let ranks: Vec<&[u32]> = rated.iter().filter_map(|rated| rated.compared()).collect();
            (0..ranks[0].len()).map(|answer| ranks.iter().map(|ranks| ranks[answer]).collect()).collect()
        };
        let units: Vec<Vec<u32>> = by_item.values().flat_map(units).collect();
        let mut skipped = BTreeMap::new();
        for why in said.rated.iter().filter_map(|rated| rated.skipped.as_ref()) {
            *skipped.entry(why.clone()).or_default() += 1;
        }
        let ratings = || firsts.iter().filter(|rated| rated.skipped.is_none());
        let (models, length, no_strengths) = models(&fair, &said.items);
        let line = |name: &String| rater_line(name, &said.rated, &by_item, is_enough);
        Report {
            items: said.waiting,
            ratings: ratings().count(),
            all_bad: ratings().filter(|rated| rated.all_bad).count(),
            skipped,
            chosen: ratings().filter(|rated| rated.rule == Rule::Disagreement).count(),
            raters: said.raters.iter().map(line).collect(),
            double_rated,
            double_rated_missing: DOUBLE.saturating_sub(double_rated),
            alpha: if is_enough { ordinal_alpha(&units) } else { None },
            agreement: if is_enough { agreement(&pairs(&by_item, |_, _| true)) } else { None },
            models,
            length,
            no_strengths,
            votes: votes(&fair, &said.items),
        }
    }
}

fn rater_line(name: &str, all: &[Rated], by_item: &BTreeMap<i64, Vec<&Rated>>, is_enough: bool) -> RaterLine {
    let own: Vec<&Rated> = all.iter().filter(|rated| rated.rater == name).collect();
    let firsts: BTreeMap<i64, &Rated> =
        own.iter().filter(|rated| rated.is_first()).map(|rated| (rated.item, *rated)).collect();
    let again = own.iter().filter(|rated| !rated.is_first());
    let twice: Vec<_> = again
        .filter_map(|rated| Some(vec![[firsts.get(&rated.item)?.compared()?, rated.compared()?]]))
        .collect();
    let ranked = || own.iter().filter(|rated| rated.skipped.is_none());
    let mut seconds: Vec<f64> =
        ranked().map(|rated| rated.seconds).filter(|seconds| *seconds > 0.0).collect();
    seconds.sort_by(f64::total_cmp);
    let with_others = pairs(by_item, |a, b| a == name || b == name);
    RaterLine {
        name: name.to_owned(),
        rated: ranked().filter(|rated| rated.is_first()).count(),
        skipped: own.len() - ranked().count(),
        seconds: seconds.get(seconds.len() / 2).copied(),
        with_others: if is_enough { agreement(&with_others) } else { None },
        with_self: agreement(&twice),
    }
}

/// The models' strengths, what length is worth, or why there are none.
fn models(
    fair: &[&Rated],
    items: &BTreeMap<i64, Item>,
) -> (Vec<ModelLine>, Option<f64>, Option<&'static str>) {
    let mut names: Vec<&str> = Vec::new();
    let mut games: Vec<Game> = Vec::new();
    for rated in fair {
        let (Some(ranks), Some(item)) = (rated.compared(), items.get(&rated.item)) else { continue };
        let mut given: Vec<(usize, u32, f64)> = Vec::new();
        for ((text, models), &rank) in item.answers.iter().zip(ranks) {
            let length = (text.chars().count().max(1) as f64).ln();
            for model in models {
                let player = names.iter().position(|name| name == model).unwrap_or_else(|| {
                    names.push(model);
                    names.len() - 1
                });
                given.push((player, rank, length));
            }
        }
        for (i, a) in given.iter().enumerate() {
            for b in given[..i].iter().filter(|b| b.0 != a.0) {
                let won = if a.1 == b.1 { 0.5 } else { f64::from(u8::from(a.1 < b.1)) };
                let prompt = rated.item as usize;
                games.push(Game { players: [a.0, b.0], won, covariate: a.2 - b.2, prompt });
            }
        }
    }
    if names.len() < 2 {
        return (Vec::new(), None, None);
    }
    let plain = match fit(&games, names.len(), false) {
        Ok(plain) => plain,
        Err(why) => return (Vec::new(), None, Some(why_not(why))),
    };
    let of_length = fit(&games, names.len(), true).ok();
    let spread = intervals(&games, names.len(), false, RESAMPLES);
    let line = |(player, name): (usize, &&str)| ModelLine {
        comparisons: games.iter().filter(|game| game.players.contains(&player)).count(),
        name: (*name).to_owned(),
        strength: plain.strengths[player],
        interval: spread.as_ref().map(|spread| spread[player]),
        length_controlled: of_length.as_ref().map(|fit: &Fit| fit.strengths[player]),
    };
    let mut lines: Vec<ModelLine> = names.iter().enumerate().map(line).collect();
    lines.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    (lines, of_length.map(|fit| fit.covariate), None)
}

/// What blind votes say of each two models. A ranking is one vote on two of its models: for the one whose answers' mean rank
/// is better. Who made a file may have known the names.
fn votes(fair: &[&Rated], items: &BTreeMap<i64, Item>) -> Vec<Votes> {
    let mut counts = BTreeMap::<(&str, &str), [u64; 3]>::new();
    for rated in fair.iter().filter(|rated| rated.rule != Rule::Import) {
        let (Some(ranks), Some(item)) = (rated.compared(), items.get(&rated.item)) else { continue };
        let mut by_model = BTreeMap::<&str, (f64, f64)>::new();
        for ((_, models), &rank) in item.answers.iter().zip(ranks) {
            for model in models {
                let (sum, n) = by_model.entry(model).or_default();
                (*sum, *n) = (*sum + f64::from(rank), *n + 1.0);
            }
        }
        let means: Vec<(&str, f64)> =
            by_model.into_iter().map(|(model, (sum, n))| (model, sum / n)).collect();
        for (i, (b, of_b)) in means.iter().enumerate() {
            for (a, of_a) in &means[..i] {
                let said = of_a.total_cmp(of_b) as i8 + 1;
                counts.entry((a, b)).or_default()[said as usize] += 1;
            }
        }
    }
    let votes = |((a, b), [wins, ties, losses]): ((&str, &str), [u64; 3])| {
        let rate = WinRate::of(wins, ties, losses);
        let (model, other, rate) = if wins < losses { (b, a, rate.turned()) } else { (a, b, rate) };
        Votes { model: model.to_owned(), other: other.to_owned(), rate }
    };
    let mut votes: Vec<Votes> = counts.into_iter().map(votes).collect();
    votes.sort_by_key(|votes| std::cmp::Reverse(votes.rate.wins + votes.rate.ties + votes.rate.losses));
    votes
}

/// For each item the pairs of rankings whose raters are asked for.
fn pairs<'r>(
    by_item: &BTreeMap<i64, Vec<&'r Rated>>,
    is_asked: impl Fn(&str, &str) -> bool,
) -> Vec<Vec<[&'r [u32]; 2]>> {
    let of = |rated: &Vec<&'r Rated>| {
        let mut pairs = Vec::new();
        for (i, a) in rated.iter().enumerate() {
            for b in rated[..i].iter().filter(|b| is_asked(&a.rater, &b.rater)) {
                pairs.extend(a.compared().zip(b.compared()).map(|(a, b)| [a, b]));
            }
        }
        pairs
    };
    by_item.values().map(of).collect()
}

fn why_not(why: NoFit) -> &'static str {
    match why {
        NoFit::Nothing => "nothing was compared",
        NoFit::Disconnected => "some models were never compared with the others",
        NoFit::Unbeaten => "some models never lost, or never won: more comparisons are needed",
        NoFit::Separated => "the comparisons decide no strengths: more of them are needed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(item: i64, rater: &str, rule: Rule, ranks: [u32; 3]) -> Rated {
        let ranks = Some(ranks.to_vec());
        Rated { item, rater: rater.into(), rule, ranks, all_bad: false, skipped: None, seconds: item as f64 }
    }

    /// So many items that two ranked: of every five ben turns one round.
    fn said(items: i64) -> Said {
        let both = |item| {
            let ben = if item % 5 == 0 { [3, 2, 1] } else { [1, 2, 3] };
            [rated(item, "ada", Rule::Random, [1, 2, 3]), rated(item, "ben", Rule::Random, ben)]
        };
        let answers = ["a", "b", "c"].map(|text| (text.to_owned(), vec![format!("model-{text}")])).to_vec();
        Said {
            waiting: items,
            rated: (1..=items).flat_map(both).collect(),
            items: (1..=items).map(|item| (item, Item { answers: answers.clone() })).collect(),
            raters: ["ada", "ben", "eve"].map(String::from).to_vec(),
        }
    }

    #[test]
    fn agreement_is_told_when_there_is_enough() {
        let few = Report::of(&said(19));
        assert_eq!((few.double_rated, few.double_rated_missing), (19, 1));
        assert!(few.alpha.is_none() && few.agreement.is_none() && few.raters[0].with_others.is_none());

        let report = Report::of(&said(20));
        let value = |agreement: &Option<Agreement>| agreement.as_ref().map(|agreement| agreement.value);
        assert_eq!(value(&report.agreement), Some(0.8));
        let [ada, ben, eve] = [0, 1, 2].map(|i| &report.raters[i]);
        assert_eq!((value(&ada.with_others), value(&ben.with_others)), (Some(0.8), Some(0.8)));
        assert_eq!((eve.rated, value(&eve.with_others), eve.seconds), (0, None, None));
        assert_eq!((ada.rated, ada.seconds), (20, Some(11.0)));
        // By answer the ranks of both: 16 items are alike, in 4 the ends are turned round.
        let turned = (0..20).flat_map(|item| match item < 4 {
            true => [vec![1, 3], vec![2, 2], vec![3, 1]],
            false => [vec![1, 1], vec![2, 2], vec![3, 3]],
        });
        let alpha = ordinal_alpha(&turned.collect::<Vec<_>>()).unwrap();
        assert!((report.alpha.unwrap() - alpha).abs() < 1e-12);
        let names: Vec<&str> = report.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["model-a", "model-b", "model-c"]);
        // Each pair of answers by two raters; each has two others.
        assert_eq!(report.models[0].comparisons, 80);
        // Of each of the three pairs the first won 36 of 40: where the likelihood is greatest, σ(x) + σ(2x) = 1.8.
        let lead = report.models[0].strength - report.models[1].strength;
        let chance = |lead: f64| 1.0 / (1.0 + (-lead).exp());
        assert!((chance(lead) + chance(2.0 * lead) - 1.8).abs() < 1e-9, "{lead}");
    }

    #[test]
    fn a_ranking_is_one_blind_vote_on_two_models() {
        let mut said = said(1);
        said.rated = vec![
            rated(1, "ada", Rule::Chat, [1, 2, 2]),
            rated(1, "ben", Rule::Random, [2, 1, 3]),
            rated(1, "ben", Rule::Repeat, [3, 1, 2]),
            rated(1, "eve", Rule::Import, [3, 2, 1]),
            rated(1, "eve", Rule::Disagreement, [3, 2, 1]),
            Rated { all_bad: true, ..rated(1, "eve", Rule::Chat, [1, 1, 1]) },
        ];
        let votes = Report::of(&said).votes;
        let told: Vec<_> = votes.iter().map(|it| (&it.model[..], &it.other[..], it.rate)).collect();
        assert_eq!(
            told,
            [
                ("model-a", "model-b", WinRate::of(1, 0, 1)),
                ("model-a", "model-c", WinRate::of(2, 0, 0)),
                ("model-b", "model-c", WinRate::of(1, 1, 0)),
            ]
        );
        // Of two answers of one model the mean rank counts, and an answer that both gave is no vote.
        let answers = [["x"].as_slice(), &["y"], &["x", "y"]];
        let answer =
            |models: &[&str]| ("text".to_owned(), models.iter().map(|it| (*it).to_owned()).collect());
        said.items.insert(1, Item { answers: answers.into_iter().map(answer).collect() });
        said.rated = vec![rated(1, "ada", Rule::Chat, [3, 1, 2])];
        let votes = &Report::of(&said).votes;
        assert_eq!((votes[0].model.as_str(), votes[0].rate), ("y", WinRate::of(1, 0, 0)));
    }

    #[test]
    fn what_reward_models_chose_says_nothing_of_raters_and_models() {
        let mut with = said(20);
        with.rated.extend([
            rated(1, "eve", Rule::Disagreement, [3, 2, 1]),
            rated(2, "eve", Rule::Disagreement, [3, 2, 1]),
        ]);
        let (with, without) = (Report::of(&with), Report::of(&said(20)));
        assert_eq!((with.chosen, with.ratings), (2, 42));
        assert_eq!((with.alpha, with.agreement), (without.alpha, without.agreement));
        assert_eq!(with.models[0].strength, without.models[0].strength);
    }

    #[test]
    fn the_second_time_measures_raters_by_themselves() {
        let mut again = said(20);
        again
            .rated
            .extend([rated(1, "ada", Rule::Repeat, [1, 2, 3]), rated(2, "ada", Rule::Repeat, [3, 2, 1])]);
        let report = Report::of(&again);
        let with_self = report.raters[0].with_self.unwrap();
        assert_eq!((with_self.value, with_self.items, report.raters[1].with_self), (0.5, 2, None));
        assert_eq!((report.ratings, report.raters[0].rated), (40, 20));
    }
}
