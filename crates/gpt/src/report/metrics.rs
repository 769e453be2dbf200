//! What the metrics of runs are called, and how each is drawn.

use super::axis::Scale;
use super::chart::Span;
use super::text::{Text, alike, both};

/// A metric as pages show it.
pub(super) struct Metric {
    /// Its key in `metrics.jsonl` or `timings.jsonl`.
    pub(super) key: &'static str,
    title: (&'static str, &'static str),
    /// What the vertical axis measures.
    unit: Unit,
    kind: Kind,
}

/// How a curve is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With its noise behind a smoothed line.
    Noisy,
    /// The same from zero up.
    FromZero,
    /// The same on a logarithmic axis.
    Log,
    /// Somebody decides it, so there is no noise to smooth away; from zero up.
    Set,
}

/// What a vertical axis measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    NatsPerAnswer,
    NatsPerToken,
    Bits,
    Reward,
    Score,
    Share,
    Tokens,
    Calls,
    TokensPerSec,
    Pairs,
    Ratio,
    Norm,
    Squared,
    Rate,
    Correlation,
    Loss,
}

impl Unit {
    fn text(self) -> Text {
        let (en, zh) = match self {
            Unit::NatsPerAnswer => ("nats per answer", "每个回答的奈特数"),
            Unit::NatsPerToken => ("nats per token", "每 token 奈特数"),
            Unit::Bits => ("bits per byte", "每字节比特数"),
            Unit::Reward => ("reward", "奖励"),
            Unit::Score => ("score, 0 to 1", "分数，0 到 1"),
            Unit::Share => ("share, 0 to 1", "比例，0 到 1"),
            Unit::Tokens => ("tokens", "token 数"),
            Unit::Calls => ("calls", "次数"),
            Unit::TokensPerSec => ("tokens per second", "每秒 token 数"),
            Unit::Pairs => ("pairs", "对数"),
            Unit::Ratio => ("ratio", "比值"),
            Unit::Norm => ("norm", "范数"),
            Unit::Squared => ("squared error", "平方误差"),
            Unit::Rate => ("size of a step", "步长"),
            Unit::Correlation => ("correlation", "相关系数"),
            Unit::Loss => ("loss", "损失"),
        };
        both(en, zh)
    }
}

const fn metric(key: &'static str, en: &'static str, zh: &'static str, unit: Unit, kind: Kind) -> Metric {
    Metric { key, title: (en, zh), unit, kind }
}

/// All that our stages write, in the order in which it is shown.
const METRICS: &[Metric] = &[
    metric("val_bpb", "Held-out text", "留出文本", Unit::Bits, Kind::Noisy),
    metric("val_reward", "Reward of held-out answers", "留出提示上回答的奖励", Unit::Reward, Kind::Noisy),
    metric("val_accuracy", "Held-out accuracy", "留出准确率", Unit::Share, Kind::Noisy),
    metric("val_f1", "Held-out F1, mean of the classes", "留出 F1（各类平均）", Unit::Share, Kind::Noisy),
    metric(
        "val_matthews",
        "Held-out Matthews' correlation",
        "留出 Matthews 相关",
        Unit::Correlation,
        Kind::Noisy,
    ),
    metric(
        "val_pearson",
        "Held-out Pearson's correlation",
        "留出 Pearson 相关",
        Unit::Correlation,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@1",
        "Held-out answers that are right",
        "留出提示上答对的比例",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@1_low",
        "Lower end of its 95 % interval",
        "其 95 % 区间的下端",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@1_high",
        "Upper end of its 95 % interval",
        "其 95 % 区间的上端",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@k",
        "Held-out prompts with a right answer among k",
        "k 个回答里有答对的留出提示",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@k_low",
        "Lower end of the interval of pass@k",
        "pass@k 区间的下端",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "eval/pass@k_high",
        "Upper end of the interval of pass@k",
        "pass@k 区间的上端",
        Unit::Share,
        Kind::Noisy,
    ),
    metric("eval/reward", "Held-out reward", "留出奖励", Unit::Reward, Kind::Noisy),
    metric("eval/gold", "The judge's score", "裁判的分数", Unit::Score, Kind::Noisy),
    metric("eval/kl", "Distance from the start (KL)", "与起点的距离（KL）", Unit::NatsPerAnswer, Kind::Noisy),
    metric(
        "eval/answer_tokens",
        "Length of held-out answers",
        "留出回答的长度",
        Unit::Tokens,
        Kind::FromZero,
    ),
    metric(
        "eval/objective",
        "Held-out reward less the KL penalty",
        "留出奖励减去 KL 惩罚",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric("eval/reward_median", "Median held-out reward", "留出奖励的中位数", Unit::Reward, Kind::Noisy),
    metric("accuracy", "Pairs told right, training", "训练中判断正确的对", Unit::Share, Kind::Noisy),
    metric(
        "rewards/margins",
        "Margin between chosen and rejected",
        "被选与被拒回答的奖励差",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric(
        "val_cross_entropy",
        "Cross entropy of held-out answers",
        "留出回答的交叉熵",
        Unit::NatsPerToken,
        Kind::Noisy,
    ),
    metric(
        "val_margin",
        "Good above bad answers, held out",
        "留出的好回答高出坏回答",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric(
        "kl",
        "Distance from the start, on other prompts' answers",
        "与起点的距离（别的提示的回答）",
        Unit::NatsPerAnswer,
        Kind::Noisy,
    ),
    metric(
        "rewards/accuracies",
        "Pairs told right, training",
        "训练中判断正确的对",
        Unit::Share,
        Kind::Noisy,
    ),
    metric(
        "rewards/chosen",
        "Implicit reward of chosen answers",
        "被选回答的隐式奖励",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric(
        "rewards/rejected",
        "Implicit reward of rejected answers",
        "被拒回答的隐式奖励",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric("objective/reward", "Reward, training prompts", "训练提示上的奖励", Unit::Reward, Kind::Noisy),
    metric(
        "objective/kl",
        "Distance from the start, training prompts",
        "训练提示上与起点的距离",
        Unit::NatsPerAnswer,
        Kind::Noisy,
    ),
    metric("objective/entropy", "Entropy of the policy", "策略的熵", Unit::NatsPerToken, Kind::Noisy),
    metric("objective/ended", "Answers that come to an end", "自己结束的回答", Unit::Share, Kind::Noisy),
    metric(
        "objective/answer_tokens",
        "Length of answers, training prompts",
        "训练提示上回答的长度",
        Unit::Tokens,
        Kind::FromZero,
    ),
    metric("groups/all_right", "Prompts with right answers only", "全部答对的提示", Unit::Share, Kind::Noisy),
    metric("groups/all_wrong", "Prompts with wrong answers only", "全部答错的提示", Unit::Share, Kind::Noisy),
    metric(
        "groups/equal",
        "Groups that teach nothing: equal rewards",
        "奖励都相同、学不到东西的组",
        Unit::Share,
        Kind::Noisy,
    ),
    metric("tools/calls", "Calls of tools in an answer", "每个回答的工具调用", Unit::Calls, Kind::Noisy),
    metric("tools/failed", "Calls that returned an error", "返回错误的调用", Unit::Share, Kind::Noisy),
    metric("groups/kept", "Answers that are learned from", "用来学习的回答", Unit::Share, Kind::Noisy),
    metric(
        "groups/reward_std",
        "Deviation of rewards within a group",
        "一组之内奖励的标准差",
        Unit::Reward,
        Kind::Noisy,
    ),
    metric("policy/loss", "Loss of the policy", "策略的损失", Unit::Loss, Kind::Noisy),
    metric(
        "policy/approxkl",
        "Step of the policy within an iteration",
        "一次迭代里策略走的距离",
        Unit::NatsPerToken,
        Kind::Noisy,
    ),
    metric(
        "policy/clipfrac",
        "Tokens whose ratio was clipped",
        "比值被截断的 token",
        Unit::Share,
        Kind::FromZero,
    ),
    metric(
        "policy/clip_low",
        "Tokens that were held from becoming less likely",
        "不再变得更不可能的 token",
        Unit::Share,
        Kind::FromZero,
    ),
    metric(
        "policy/clip_high",
        "Tokens that were held from becoming more likely",
        "不再变得更可能的 token",
        Unit::Share,
        Kind::FromZero,
    ),
    metric(
        "policy/kl",
        "Estimate of the KL in the loss",
        "损失里 KL 的估计",
        Unit::NatsPerToken,
        Kind::Noisy,
    ),
    metric("policy/ratio", "New probability over old", "新旧概率之比", Unit::Ratio, Kind::Noisy),
    metric("policy/grad_norm", "Gradient norm of the policy", "策略的梯度范数", Unit::Norm, Kind::Log),
    metric("value/loss", "Loss of the value model", "价值模型的损失", Unit::Squared, Kind::Noisy),
    metric("value/clipfrac", "Values that were clipped", "被截断的价值", Unit::Share, Kind::FromZero),
    metric(
        "value/grad_norm",
        "Gradient norm of the value model",
        "价值模型的梯度范数",
        Unit::Norm,
        Kind::Log,
    ),
    metric("ptx/loss", "Loss on pretraining text", "预训练文本上的损失", Unit::NatsPerToken, Kind::Noisy),
    metric(
        "ptx/grad_norm_ratio",
        "Gradient of pretraining text over that of PPO",
        "预训练文本与 PPO 的梯度之比",
        Unit::Ratio,
        Kind::Noisy,
    ),
    metric("kl_coef", "Weight of the KL penalty", "KL 惩罚的权重", Unit::Ratio, Kind::Set),
    metric("pairs", "Pairs in a batch", "一批里的对", Unit::Pairs, Kind::FromZero),
    metric("lr", "Learning rate", "学习率", Unit::Rate, Kind::Set),
    metric("grad_norm", "Gradient norm", "梯度范数", Unit::Norm, Kind::Log),
    metric("tokens_per_sec", "Speed", "速度", Unit::TokensPerSec, Kind::FromZero),
    metric(
        "mfu",
        "Utilisation, fraction of the machine's peak",
        "利用率（占机器峰值的比例）",
        Unit::Share,
        Kind::FromZero,
    ),
];

/// The metric under this key, if it is one of ours.
pub(super) fn named(key: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.key == key)
}

/// The keys of all of them.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    METRICS.iter().map(|metric| metric.key)
}

/// The place of a metric among others: ours in the order above, others behind them.
pub(super) fn order(key: &str) -> usize {
    METRICS.iter().position(|metric| metric.key == key).unwrap_or(METRICS.len())
}

/// What a metric is called.
pub(super) fn title(key: &str) -> Text {
    named(key).map_or_else(|| alike(key), |metric| both(metric.title.0, metric.title.1))
}

impl Metric {
    /// What the vertical axis measures.
    pub(super) fn unit(&self) -> Text {
        self.unit.text()
    }

    /// Whether there is noise to smooth away.
    pub(super) fn is_noisy(&self) -> bool {
        self.kind != Kind::Set
    }

    /// The vertical axis.
    pub(super) fn axis(&self) -> (Scale, Span) {
        let scale = match (self.kind, self.unit) {
            (Kind::Log, _) => Scale::Log,
            (_, Unit::Pairs | Unit::Tokens) => Scale::Count,
            _ => Scale::Linear,
        };
        let span = if matches!(self.kind, Kind::FromZero | Kind::Set) { Span::FromZero } else { Span::All };
        (scale, span)
    }
}
