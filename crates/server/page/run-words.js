// The words of the page of runs in both languages.

export const RUN_WORDS = {
  en: {
    runsTitle: "Runs", run: "Run", toChat: "Chat", step: "Step", askCheckpoint: "Ask this checkpoint", samples: "What it wrote",
    rollouts: "Rollouts", atStep: (step) => `After step ${step}`, nothingYet: "Nothing was written yet.", noCheckpoint: "No checkpoint of this step was kept.",
    noRuns: "There are no runs in this folder.", noTalk: "It has no chat template: there is no talking to it.", loading: "Loading …",
    aboutRun: (stage, state) => `${stage}, ${state}`, isFinished: "finished", isFailed: "failed", isStopped: "stopped", isRunning: "running", isKilled: "ended without a word: the same command goes on",
    pace: (step, steps, rate, minutes) => `step ${step}${steps ? ` of ${steps}` : ""}${rate ? `, ${rate} tokens a second` : ""}${minutes ? `, about ${minutes} min left` : ""}`,
    resumed: "went on here", curveOf: (name, first, last, low, high) => `${name}: from ${first} to ${last}, between ${low} and ${high}`,
    notEnded: "not ended", alarmTitle: "This looks like cheating",
    alarmReward: (from, to) => `The reward went from ${from} to ${to}, and with it what nobody asked for:`,
    alarmLength: (from, to, rho) => `Answers grew from ${from} to ${to} tokens, and from the start the reward went with their length (rank correlation ${rho}): the reward model takes long answers for good ones.`,
    alarmRepetition: (from, to) => `Of what an answer says, ${to} was said in it before; at the beginning ${from}.`,
    alarmKl: (from, to) => `Since the middle of the run the policy went from ${from} to ${to} nats an answer from where it began, and the reward hardly went up any more: it pays for nothing.`,
    alarmWinRate: (value, low, high, votes) => `People prefer the model that it began from: it wins ${value} of ${votes} blind votes (95 %: ${low}–${high}).`,
  },
  zh: {
    runsTitle: "所有运行", run: "运行", toChat: "对话", step: "步", askCheckpoint: "问这个检查点", samples: "它写了什么",
    rollouts: "采样的回答", atStep: (step) => `第 ${step} 步之后`, nothingYet: "还没有写过什么。", noCheckpoint: "这一步没有保留检查点。",
    noRuns: "这个文件夹里没有运行。", noTalk: "它没有对话模板，无法与它对话。", loading: "正在加载……",
    aboutRun: (stage, state) => `${stage}，${state}`, isFinished: "已完成", isFailed: "失败", isStopped: "已停止", isRunning: "进行中", isKilled: "意外中断：同样的命令会继续",
    pace: (step, steps, rate, minutes) => `第 ${step} 步${steps ? `，共 ${steps} 步` : ""}${rate ? `，每秒 ${rate} 个 token` : ""}${minutes ? `，约剩 ${minutes} 分钟` : ""}`,
    resumed: "从这里继续", curveOf: (name, first, last, low, high) => `${name}：从 ${first} 到 ${last}，介于 ${low} 与 ${high} 之间`,
    notEnded: "没有结束", alarmTitle: "这像是在钻空子",
    alarmReward: (from, to) => `奖励从 ${from} 升到 ${to}，同时出现了没有人要求的变化：`,
    alarmLength: (from, to, rho) => `回答从 ${from} 个 token 增长到 ${to} 个，而奖励从一开始就随长度走（秩相关 ${rho}）：奖励模型把长回答当成了好回答。`,
    alarmRepetition: (from, to) => `回答中有 ${to} 是重复前文；开始时为 ${from}。`,
    alarmKl: (from, to) => `从运行的中段起，策略与起点的距离从每个回答 ${from} 纳特增至 ${to} 纳特，而奖励几乎不再上升：付出了代价，却没有收获。`,
    alarmWinRate: (value, low, high, votes) => `人们更喜欢它的起点模型：它在 ${votes} 次盲测中只赢 ${value}（95 %：${low}–${high}）。`,
  },
};
