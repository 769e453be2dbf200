// The page's words in both languages, and which one is shown. `data-words` of an element names its text, `data-label` its
// accessible name, `data-placeholder` what stands in an empty field.

const WORDS = {
  en: {
    skip: "Skip to the message", newTalk: "New conversation", talks: "Conversations", talk: "Conversation",
    interface: "Interface", model: "Model", settings: "Settings", system: "System message",
    temperature: "Temperature", topP: "Top-p", topK: "Top-k", maxTokens: "Tokens at most", seed: "Seed",
    why: "Show how likely each word was", say: "Say something", send: "Send", stop: "Stop",
    needsKey: "This server needs a key", use: "Use it", alternatives: "What else it might have said",
    you: "You", copy: "Copy", copied: "Copied", edit: "Edit", retry: "Another answer", remove: "Delete",
    four: "Four answers, to rank", duel: "Two models, blind", good: "Good answer", bad: "Bad answer",
    compareTitle: "Which is better?", notWhole: "The answers are not whole yet.",
    curl: "Same again (curl)", save: "Save and send", cancel: "Cancel", earlier: "The version before",
    later: "The version after", stopped: "stopped", cut: "cut at the token limit",
    tokens: (n, speed) => `${n} tokens, ${speed} a second`, untitled: "Untitled",
    leftOut: (n) => `The context is full: the first ${n} messages are not sent.`, noChat: "no chat template",
    failed: (why) => `Failed: ${why}`, full: "The browser keeps no more: delete a conversation.",
    gone: "the connection was lost", end: "(end of the answer)",
    others: (n, p) => `${n} others together: ${p}`, dice: "How each would be drawn with",
    reward: "Reward", rewardIf: "What the reward model would say if the answer ended here",
    rewardAlt: (model, n, first, low, high, last) => `Rewards of ${model} after each of ${n} tokens: ${first} at first; lowest ${low}; highest ${high}; ${last} at the end`,
    rewardTable: (model) => `Every token and its reward (${model})`, token: "Token",
    origin: "How it came about", asModel: "as the model's files say", arithmetic: "Computed with",
    again: "Same again", asking: "Asking once more …",
    equal: (n) => `The same ${n} bytes.`, unequal: (at) => `Not the same from byte ${at} on.`,
    otherOrigin: "Another model or another arithmetic answers under this name now.",
  },
  zh: {
    skip: "跳到输入框", newTalk: "新对话", talks: "对话列表", talk: "对话",
    interface: "接口", model: "模型", settings: "设置", system: "系统消息",
    temperature: "温度", topP: "Top-p", topK: "Top-k", maxTokens: "最多 token 数", seed: "种子",
    why: "显示每个词的概率", say: "说点什么", send: "发送", stop: "停止",
    needsKey: "此服务器需要密钥", use: "使用", alternatives: "它还可能说什么",
    you: "你", copy: "复制", copied: "已复制", edit: "修改", retry: "换一个回答", remove: "删除",
    four: "四个回答，来排序", duel: "两个模型，盲测", good: "好的回答", bad: "不好的回答",
    compareTitle: "哪个更好？", notWhole: "回答还没有完整。",
    curl: "重现此回答（curl）", save: "保存并发送", cancel: "取消", earlier: "上一个版本",
    later: "下一个版本", stopped: "已停止", cut: "到 token 上限为止",
    tokens: (n, speed) => `${n} 个 token，每秒 ${speed} 个`, untitled: "未命名",
    leftOut: (n) => `上下文已满：最前面的 ${n} 条消息不再发送。`, noChat: "没有对话模板",
    failed: (why) => `失败：${why}`, full: "浏览器存不下更多内容：请删除一个对话。",
    gone: "连接中断", end: "（回答结束）",
    others: (n, p) => `其余 ${n} 个合计：${p}`, dice: "按以下设置各自被抽中的概率",
    reward: "奖励", rewardIf: "若回答到此为止，奖励模型会给的分数",
    rewardAlt: (model, n, first, low, high, last) => `${model} 在 ${n} 个 token 中每一个之后的奖励：开始 ${first}；最低 ${low}；最高 ${high}；结束 ${last}`,
    rewardTable: (model) => `每个 token 及其奖励（${model}）`, token: "Token",
    origin: "此回答的由来", asModel: "按模型文件", arithmetic: "计算环境",
    again: "再来一次", asking: "正在重新提问……",
    equal: (n) => `${n} 个字节完全相同。`, unequal: (at) => `从第 ${at} 个字节起不同。`,
    otherOrigin: "现在以此名称回答的是另一个模型或另一种计算环境。",
  },
};

let language = localStorage.getItem("mynah.language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** Further words, of another page. */
export function add(words) {
  for (const name of Object.keys(WORDS)) Object.assign(WORDS[name], words[name]);
}

export const word = (name, ...values) => {
  const found = WORDS[language][name];
  return typeof found === "function" ? found(...values) : found;
};

/** Writes every word of the page in the language that is shown. */
export function write() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-words]")) element.textContent = word(element.dataset.words);
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = word(element.dataset.label);
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = word(element.dataset.placeholder);
  const button = document.getElementById("language");
  button.textContent = language === "zh" ? "English" : "中文";
  button.lang = language === "zh" ? "en" : "zh";
}

/** Shows the other language, also next time. */
export function change() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("mynah.language", language);
  write();
}
