//! The curves of a run: the loss large, then the few that one looks at first, each with what to look for, and
//! everything else folded away.

use super::axis::Scale;
use super::chart::{Chart, Look, Mark, Series, Span};
use super::html::{Element, folded, note, section};
use super::metrics;
use super::record::{Record, smooth};
use super::text::{Text, both};

/// Charts beyond our own metrics that a page may hold.
const OTHERS: usize = 48;
/// Metrics that the large chart shows or that are no curves.
const KNOWN: [&str; 3] = ["loss", "val_loss", "tokens"];

pub(super) fn curves(record: &Record) -> Option<Element> {
    let looked_at = first_charts(record);
    let shown: Vec<&str> = looked_at.iter().flat_map(|chart| [chart.held_out, chart.training]).collect();
    let first = looked_at.iter().filter_map(|chart| first_figure(record, chart));
    let first: Vec<Element> = first.collect();
    let others = other_figures(record, &shown);
    let loss = loss_figure(record);
    if loss.is_none() && first.is_empty() && others.is_empty() {
        return None;
    }
    let charts = |figures| Element::of("div", "charts").children(figures);
    let mut found = section(both("Curves", "曲线")).children(loss);
    if !first.is_empty() {
        found = found.child(charts(first));
    }
    if !others.is_empty() {
        let summary = both(format!("{} more curves", others.len()), format!("另外 {} 条曲线", others.len()));
        found = found.child(folded(summary).child(charts(others)));
    }
    Some(found)
}

/// A chart that one looks at first: a metric of held-out data, and beside it the same in training, or an
/// empty name.
struct First {
    held_out: &'static str,
    training: &'static str,
    look_for: Text,
}

fn first_charts(record: &Record) -> Vec<First> {
    let first = |held_out, training, en: &str, zh: &str| First { held_out, training, look_for: both(en, zh) };
    let mut charts = match record.recipe.stage.as_str() {
        "pretrain" => vec![first(
            "val_bpb",
            "",
            "Should fall: the bits that the model needs for each byte of text that it has not seen. It can be compared between vocabularies.",
            "应当下降：模型为没见过的文本每个字节所需的比特数，词表不同也能比较。",
        )],
        "sft" => vec![first(
            "val_reward",
            "",
            "Should rise: what the reward model gives to answers to held-out prompts.",
            "应当上升：奖励模型给留出提示上的回答打的分。",
        )],
        "reward" => vec![first(
            "val_accuracy",
            "accuracy",
            "Should rise: the share of pairs that the model puts in the rankers' order. 0.5 is chance, and where rankers err 1 is out of reach.",
            "应当上升：模型与排序者顺序一致的对所占的比例。0.5 等于瞎猜；排序者会出错时到不了 1。",
        )],
        "dpo" => vec![
            first(
                "val_accuracy",
                "rewards/accuracies",
                "Should rise: the share of pairs whose better answer the model has come to prefer. 0.5 is chance.",
                "应当上升：模型变得更偏向较好回答的对所占的比例。0.5 等于瞎猜。",
            ),
            first(
                "rewards/margins",
                "",
                "Should rise above 0: how much more the chosen answer has gained than the rejected one. If it runs away while the accuracy stands still, the model learns its pairs by heart.",
                "应当升到 0 以上：被选的回答比被拒的多涨了多少。如果它一路猛涨而准确率不动，模型就是在死记训练用的对。",
            ),
        ],
        "distil" => vec![first(
            "val_cross_entropy",
            "",
            "Should fall: what held-out answers cost the student. If it rises while the loss falls, the student becomes like a teacher that does not know these answers.",
            "应当下降：留出回答让学生付出的代价。如果它升而损失降，学生正变得像一个不懂这些回答的老师。",
        )],
        "kto" => vec![
            first(
                "val_margin",
                "rewards/margins",
                "Should rise above 0: how much more good answers have gained than bad ones. If it runs away in training while it stands still on held-out answers, the model learns its answers by heart.",
                "应当升到 0 以上：好回答比坏回答多涨了多少。如果它在训练里一路猛涨而在留出回答上不动，模型就是在死记训练用的回答。",
            ),
            first(
                "kl",
                "",
                "The point from which gains and losses are counted: how far the policy has moved from where it began, on answers to other prompts. It is 0 at first and rises slowly; where it jumps, lower the rate.",
                "得失以它为起点：策略在别的提示的回答上离起点有多远。开始时是 0，慢慢上升；如果它跳起来，就降低学习率。",
            ),
        ],
        "finetune" => vec![
            first(
                "val_accuracy",
                "",
                "Should rise: the share of held-out texts that are told right.",
                "应当上升：留出文本里判断正确的比例。",
            ),
            first(
                "val_pearson",
                "",
                "Should rise towards 1: how well the told degrees follow the right ones.",
                "应当升向 1：给出的程度与正确程度的相关。",
            ),
        ],
        "ppo" => ppo_charts(record, &first),
        "grpo" => grpo_charts(&first),
        _ => Vec::new(),
    };
    charts.retain(|chart| !record.metric(chart.held_out).is_empty());
    charts
}

/// What a practitioner looks at first where answers are checked.
fn grpo_charts(first: &dyn Fn(&'static str, &'static str, &str, &str) -> First) -> Vec<First> {
    vec![
        first(
            "eval/pass@1",
            "",
            "Should rise: the share of answers to held-out prompts that are right.",
            "应当上升：留出提示上的回答里答对的比例。",
        ),
        first(
            "eval/reward",
            "objective/reward",
            "Should rise and level off: the sum of all rewards. Where it rises and the right answers do not, one of the other rewards is being exploited.",
            "应当上升，然后走平：所有奖励之和。如果它在升而答对的比例不升，就是某个别的奖励被钻了空子。",
        ),
        first(
            "groups/equal",
            "",
            "The share of groups that teach nothing, since all their answers got the same. Near 1 the prompts are too easy or too hard: take others, or rounds above 1.",
            "学不到东西的组所占的比例：组里的回答得分都相同。接近 1 时提示太容易或太难：换一些提示，或让 rounds 大于 1。",
        ),
        first(
            "objective/entropy",
            "",
            "May sink slowly: how undecided the policy is. Close to 0 it has collapsed into one answer for each prompt, and groups no longer differ.",
            "可以慢慢下降：策略有多犹豫。接近 0 时，它对每个提示只剩一种回答，组内不再有差别。",
        ),
        first(
            "eval/answer_tokens",
            "objective/answer_tokens",
            "Longer answers are no aim in themselves, unless the prompts ask for a derivation.",
            "回答变长本身不是目的，除非提示要求推导。",
        ),
    ]
}

/// What a practitioner looks at first in PPO. Where nobody judges the answers, the entropy takes the judge's
/// place.
fn ppo_charts(
    record: &Record,
    first: &dyn Fn(&'static str, &'static str, &str, &str) -> First,
) -> Vec<First> {
    let judged = !record.metric("eval/gold").is_empty();
    vec![
        first(
            "eval/reward",
            "objective/reward",
            "Should rise and level off: what the reward model gives to answers. The held-out prompts count; those of training are noisier.",
            "应当上升，然后走平：奖励模型给回答打的分。要看留出的提示；训练提示上的噪声更大。",
        ),
        if judged {
            first(
                "eval/gold",
                "",
                "Should rise with the reward. Where it falls while the reward goes on rising, the policy exploits the reward model: take fewer steps, or a larger kl_coef.",
                "应当随奖励一起上升。如果奖励还在升而它在降，策略就是在钻奖励模型的空子：减少步数，或加大 kl_coef。",
            )
        } else {
            first(
                "objective/entropy",
                "",
                "May sink slowly: how undecided the policy is. Close to 0 it has collapsed into one answer for each prompt.",
                "可以慢慢下降：策略有多犹豫。接近 0 时，它对每个提示只剩一种回答。",
            )
        },
        first(
            "eval/kl",
            "objective/kl",
            "How far the answers have moved away from the model at the start. Some distance is the point; a jump without more reward to show for it is not.",
            "回答离起点的模型有多远。走一段距离正是目的；突然跳远而奖励不涨就不对了。",
        ),
        first(
            "eval/answer_tokens",
            "objective/answer_tokens",
            "Should settle. Answers that only grow, or shrink to nothing, are the usual way to fool a reward model.",
            "应当稳定下来。回答越来越长，或短到什么都没有，是骗过奖励模型的常见办法。",
        ),
    ]
}

fn first_figure(record: &Record, First { held_out, training, look_for }: &First) -> Option<Element> {
    let metric = metrics::named(held_out)?;
    let (y, span) = metric.axis();
    let title = metrics::title(held_out);
    let mut chart = Chart { y, span, unit: metric.unit(), ..Chart::of(id(held_out), title, Vec::new()) };
    let trained = record.metric(training);
    let is_held_out = held_out.starts_with("val_") || held_out.starts_with("eval/");
    let name = if is_held_out { both("held out", "留出") } else { both("training", "训练") };
    let class = if is_held_out { "val" } else { "train" };
    let known = record.metric(held_out);
    chart.series = match (is_held_out, trained.is_empty()) {
        (true, false) => vec![
            Series { name: Text::default(), class: "train", look: Look::Range, points: trained.clone() },
            Series {
                name: both("training", "训练"),
                class: "train",
                look: Look::Line,
                points: smooth(&trained),
            },
            Series { name, class, look: Look::Dots, points: known },
        ],
        (true, true) => vec![Series { name, class, look: Look::Dots, points: known }],
        (false, _) => vec![Series { name, class, look: Look::Line, points: known }],
    };
    if let Some(step) = record.chosen() {
        let label = both(format!("step {step} was chosen"), format!("选中的是第 {step} 步"));
        chart.marks = vec![Mark { step: step as f64, class: "chosen", label }];
    }
    let keys: Vec<&str> = [*held_out, *training].into_iter().filter(|key| !key.is_empty()).collect();
    let figure = Element::of("figure", "card").child(caption(&chart, &keys)).child(chart.svg(440.0, 220.0)?);
    Some(figure.child(note(look_for.clone())))
}

/// What a chart is called, what its lines are, and under which keys the numbers lie in the files.
fn caption(chart: &Chart, keys: &[&str]) -> Element {
    let told: Vec<&Series> = chart.series.iter().filter(|series| series.is_told()).collect();
    let lines = told.iter().filter(|_| told.len() > 1);
    let lines =
        lines.map(|series| Element::of("span", &format!("key {}", series.class)).say(series.name.clone()));
    let named = keys.iter().map(|key| Element::of("code", "pale").data(key));
    let named = (!keys.is_empty()).then(|| Element::of("span", "keys").children(named));
    Element::new("figcaption")
        .child(Element::new("strong").attr("id", &chart.id).say(chart.title.clone()))
        .children(lines)
        .children(named)
}

/// The `id` of a metric's chart: what a key may hold that an `id` may not stands for nothing else in ours.
fn id(key: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("chart-{}", key.chars().map(safe).collect::<String>())
}

/// The loss over steps and over their logarithm, each once for wide and once for narrow pages. Two radio
/// buttons choose, by the style sheet alone.
fn loss_figure(record: &Record) -> Option<Element> {
    let mut chart = loss_chart(record);
    let mut switch = Element::of("fieldset", "scales")
        .child(Element::of("legend", "unseen").say(both("How steps are drawn", "步数的坐标")));
    for (id, label, checked) in
        [("x-linear", both("steps", "线性"), true), ("x-log", both("log", "对数"), false)]
    {
        let radio = Element::new("input").attr("type", "radio").attr("name", "x").attr("id", id);
        let radio = if checked { radio.attr("checked", "checked") } else { radio };
        switch = switch.child(radio).child(Element::new("label").attr("for", id).say(label));
    }
    let mut figure = Element::of("figure", "card loss").child(caption(&chart, &[]).child(switch));
    for (class, scale) in [("over-linear", Scale::Count), ("over-log", Scale::Log)] {
        chart.x = scale;
        let (wide, narrow) = (chart.svg(1000.0, 340.0)?, chart.svg(440.0, 300.0)?);
        let cropped = both(
            "The first steps lie above the frame; the logarithmic view shows them.",
            "最初几步在图框之上，对数坐标里能看到。",
        );
        let cropped = chart.is_cropped().then(|| note(cropped));
        let wide = Element::of("div", "wide").child(wide);
        let narrow = Element::of("div", "narrow").child(narrow);
        figure = figure.child(Element::of("div", class).child(wide).child(narrow).children(cropped));
    }
    let look_for = both(
        "Should fall, steeply at first and then ever more slowly. Where the validation loss rises while the training loss falls, the model learns its examples by heart.",
        "应当下降，先快后慢。如果训练损失还在降而验证损失升了，模型就是在死记样本。",
    );
    Some(figure.child(note(look_for)))
}

fn loss_chart(record: &Record) -> Chart {
    let loss = record.metric("loss");
    let series = |name, class, look, points| Series { name, class, look, points };
    let mut chart = Chart::of("chart-loss", both("Loss by step", "各步的损失"), Vec::new());
    let of_tokens = matches!(record.recipe.stage.as_str(), "pretrain" | "sft");
    chart.unit =
        if of_tokens { both("nats per token", "每 token 奈特数") } else { both("loss", "损失") };
    chart.series = vec![
        series(Text::default(), "train", Look::Range, loss.clone()),
        series(both("training", "训练"), "train", Look::Line, smooth(&loss)),
        series(both("validation", "验证"), "val", Look::Dots, record.metric("val_loss")),
    ];
    chart.series.retain(|series| !series.points.is_empty());
    chart.span = Span::Late;
    chart.marks = record.bad_steps().into_iter().map(|(step, why)| bad(step, why)).collect();
    chart
}

fn bad(step: u64, why: &str) -> Mark {
    let label = both(format!("step {step} was bad: {why}"), format!("第 {step} 步异常：{why}"));
    Mark { step: step as f64, class: "bad", label }
}

/// Every other curve of the run.
fn other_figures(record: &Record, shown: &[&str]) -> Vec<Element> {
    let mut keys: Vec<&str> = record.metric_names();
    keys.extend(["tokens_per_sec", "mfu"]);
    keys.retain(|key| !KNOWN.contains(key) && !shown.contains(key));
    keys.sort_by_key(|key| metrics::order(key));
    let ours = keys.iter().filter(|key| metrics::named(key).is_some()).count();
    keys.truncate(ours + OTHERS);
    keys.into_iter().enumerate().filter_map(|(i, key)| other_figure(record, i, key)).collect()
}

fn other_figure(record: &Record, i: usize, key: &str) -> Option<Element> {
    let points = match key {
        "tokens_per_sec" | "mfu" => record.timing(key),
        _ => record.metric(key),
    };
    let mut chart = Chart::of(format!("chart-{i}"), metrics::title(key), points);
    if let Some(metric) = metrics::named(key) {
        (chart.y, chart.span) = metric.axis();
        chart.unit = metric.unit();
    }
    let noisy = metrics::named(key).is_none_or(metrics::Metric::is_noisy);
    figure(&if noisy { chart.smoothed() } else { chart }, &[key])
}

/// A small chart of one curve, under the keys of its numbers.
pub(super) fn figure(chart: &Chart, keys: &[&str]) -> Option<Element> {
    Some(Element::of("figure", "card").child(caption(chart, keys)).child(chart.svg(440.0, 220.0)?))
}

impl Chart {
    /// The chart of one curve with a smoothed line before it, where there are enough points to smooth; points
    /// of one curve lie behind its smoothed line unless they are few.
    pub(super) fn smoothed(mut self) -> Chart {
        let mut line = self.series.remove(0);
        if line.points.len() < 60 {
            line.look = if line.points.len() < 30 { Look::Dots } else { Look::Line };
            return Chart { series: vec![line], ..self };
        }
        let range = Series { look: Look::Range, ..line.clone() };
        line.points = smooth(&line.points);
        Chart { series: vec![range, line], ..self }
    }
}
