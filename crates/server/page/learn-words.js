// The words of the page on which models learn, in both languages.

export const LEARN_WORDS = {
  en: {
    learnTitle: "Learn from feedback", beginFrom: "Begin from", learnBy: "How", learnSteps: "Steps (else the recipe's)", learn: "Learn",
    goOn: "Go on", compareBlind: "Compare blind in the chat", curvesOf: "Curves and rollouts",
    thereIs: (rankings, prompts) => `${rankings} rankings of answers to ${prompts} prompts so far. A reward model learns from them first, then the model by it, beside what is served: one thread, low priority.`,
    notHere: "Nothing learns here: start mynah serve with --store FILE.", stopping: "It saves and stops.",
    generation: (name, parent, by, rankings) => `${name}: from ${parent} by ${by.toUpperCase()}, ${rankings} rankings`,
    isWaiting: "waits", stageIs: (stage, state) => `${stage}: ${state}`,
    toGoOn: "It was not finished. Going on does no step twice.", endedWith: "It ended with:", beside: (name) => `${name} is among the models now.`,
    doubtsTitle: (contrary, of) => `Rankings that the reward model would order the other way: ${contrary} of ${of}`,
    doubtsAbout: (n) => `The ${n} that it contradicts most surely. Some are slips: ask again. Where people are right and the model is wrong, keep them.`,
    rankAndReward: (rank, reward) => `${rank}. (reward ${reward})`, askAgain: "Ask again", keepIt: "Keep", kept: "It stands.",
    askedOf: (rater) => `It comes first on the ranking page of ${rater || "whoever ranked it"}.`,
  },
  zh: {
    learnTitle: "从反馈中学习", beginFrom: "起点模型", learnBy: "方法", learnSteps: "步数（否则按配方）", learn: "学习",
    goOn: "继续", compareBlind: "在对话中盲测", curvesOf: "曲线与采样的回答",
    thereIs: (rankings, prompts) => `目前有 ${rankings} 个排序，来自 ${prompts} 个提示。先由奖励模型学习，再由模型据此学习；与服务同时进行：一个线程，低优先级。`,
    notHere: "这里不学习：请用 --store FILE 启动 mynah serve。", stopping: "正在保存并停止。",
    generation: (name, parent, by, rankings) => `${name}：从 ${parent} 开始，${by.toUpperCase()}，${rankings} 个排序`,
    isWaiting: "等待中", stageIs: (stage, state) => `${stage}：${state}`,
    toGoOn: "还没有完成。继续时不会重复任何一步。", endedWith: "结束时的消息：", beside: (name) => `${name} 已在模型列表中。`,
    doubtsTitle: (contrary, of) => `奖励模型会反过来排的排序：${of} 个中有 ${contrary} 个`,
    doubtsAbout: (n) => `它最确定地反对的 ${n} 个。有些是手误：请再问一次。若人对而模型错，就保留。`,
    rankAndReward: (rank, reward) => `${rank}.（奖励 ${reward}）`, askAgain: "再问一次", keepIt: "保留", kept: "保持不变。",
    askedOf: (rater) => `它会排在${rater ? ` ${rater} ` : "评分人"}的排序页面最前。`,
  },
};
