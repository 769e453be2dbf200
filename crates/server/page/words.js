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
    curl: "Same again (curl)", save: "Save and send", cancel: "Cancel", earlier: "The version before",
    later: "The version after", stopped: "stopped", cut: "cut at the token limit", chosen: "chosen",
    tokens: (n, speed) => `${n} tokens, ${speed} a second`, untitled: "Untitled",
    leftOut: (n) => `The context is full: the first ${n} messages are not sent.`, noChat: "no chat template",
    failed: (why) => `Failed: ${why}`, full: "The browser keeps no more: delete a conversation.",
    gone: "the connection was lost", continued: "Goes on from here",
  },
  zh: {
    skip: "跳到输入框", newTalk: "新对话", talks: "对话列表", talk: "对话",
    interface: "接口", model: "模型", settings: "设置", system: "系统消息",
    temperature: "温度", topP: "Top-p", topK: "Top-k", maxTokens: "最多 token 数", seed: "种子",
    why: "显示每个词的概率", say: "说点什么", send: "发送", stop: "停止",
    needsKey: "此服务器需要密钥", use: "使用", alternatives: "它还可能说什么",
    you: "你", copy: "复制", copied: "已复制", edit: "修改", retry: "换一个回答", remove: "删除",
    curl: "重现此回答（curl）", save: "保存并发送", cancel: "取消", earlier: "上一个版本",
    later: "下一个版本", stopped: "已停止", cut: "到 token 上限为止", chosen: "已选",
    tokens: (n, speed) => `${n} 个 token，每秒 ${speed} 个`, untitled: "未命名",
    leftOut: (n) => `上下文已满：最前面的 ${n} 条消息不再发送。`, noChat: "没有对话模板",
    failed: (why) => `失败：${why}`, full: "浏览器存不下更多内容：请删除一个对话。",
    gone: "连接中断", continued: "从这里继续",
  },
};

let language = localStorage.getItem("mynah.language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

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
