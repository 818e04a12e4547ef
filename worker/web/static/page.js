// What every page has: theme, the switch of the keys, the table of keys, the news that the page is out of date.

import { onKeys } from "/static/keys.js";

const root = document.documentElement;
const csrf = document.body.dataset.csrf;
const STALE_AFTER_MS = 15000, BEAT_MS = 5000, PATIENCE_MS = 10000;

let lastAnswer = Date.now();
let hadInput = false;

export function answered() {
  lastAnswer = Date.now();
}

// A form of ours, sent by script. Returns the answer, or null when there was none in time.
export async function send(path, fields, loggedOut = () => location.assign("/login")) {
  try {
    const body = new URLSearchParams({ csrf, ...fields });
    const answer = await fetch(path, { method: "POST", body, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status < 500) answered();
    if (answer.status === 401) loggedOut();
    return answer;
  } catch {
    return null;
  }
}

export function leave(path, fields) {
  navigator.sendBeacon(path, new URLSearchParams({ csrf, ...fields }));
}

// Whether the person did something since this was asked last: only that prolongs a session or a hold.
export function takeInput() {
  const had = hadInput;
  hadInput = false;
  return had ? "1" : "0";
}

// For a page that fetches nothing by itself: it hears of a log-out, and of a server that is away.
export function keepInTouch() {
  const ask = () => { if (!document.hidden) send("/beat", { input: takeInput() }); };
  setInterval(ask, BEAT_MS);
  document.addEventListener("visibilitychange", ask);
}

function remember(name, value) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${name}=${value}; Path=/; SameSite=Strict; Max-Age=31536000${secure}`;
}

for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) {
  document.addEventListener(kind, () => { hadInput = true; }, { passive: true });
}

document.getElementById("theme")?.addEventListener("click", (event) => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  event.target.textContent = root.dataset.theme === "dark" ? "Light theme" : "Dark theme";
  remember("theme", root.dataset.theme);
});

document.getElementById("keys")?.addEventListener("click", (event) => {
  root.dataset.keys = root.dataset.keys === "off" ? "on" : "off";
  event.target.setAttribute("aria-pressed", String(root.dataset.keys === "on"));
  remember("keys", root.dataset.keys);
});

const help = document.getElementById("help-table");
document.getElementById("help")?.addEventListener("click", () => help.showModal());

onKeys({
  "?": () => help?.showModal(),
  "/": () => document.getElementById("search")?.focus(),
  n: () => document.getElementById("next")?.click(),
  b: () => location.assign("/"),
});

const stale = document.getElementById("stale");
document.addEventListener("visibilitychange", answered);
setInterval(() => {
  stale.hidden = document.hidden || Date.now() - lastAnswer < STALE_AFTER_MS;
}, 1000);
if (csrf && !document.querySelector("#rows, #study")) keepInTouch();
