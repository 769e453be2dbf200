// The page's language: the one that was chosen before, else the browser's, else English.
(() => {
  const KEY = "mynah.language", LANGUAGES = ["en", "zh-CN"], root = document.documentElement;
  let kept = null;
  // A browser may forbid pages of files to keep anything.
  try { kept = localStorage.getItem(KEY); } catch {}
  const own = /^zh\b/i.test(navigator.language) ? "zh-CN" : "en";
  const show = (language) => {
    root.lang = language;
    const title = document.querySelector("title");
    document.title = title.getAttribute("data-" + language.toLowerCase()) ?? document.title;
    for (const button of document.querySelectorAll(".languages button")) {
      button.setAttribute("aria-pressed", String(button.lang === language));
    }
  };
  const wanted = LANGUAGES.includes(kept) ? kept : own;
  root.lang = wanted;
  addEventListener("DOMContentLoaded", () => {
    show(wanted);
    const languages = document.querySelector(".languages");
    languages.hidden = false;
    languages.addEventListener("click", ({ target }) => {
      if (!LANGUAGES.includes(target.lang) || target.localName !== "button") return;
      show(target.lang);
      try { localStorage.setItem(KEY, target.lang); } catch {}
    });
  });
})();
