// The list: keys, polling while the tab is seen, and taking in what is new without moving the row under the cursor.

import { onKeys } from "/static/keys.js";
import { answered, send, takeInput } from "/static/page.js";

const POLL_MS = 5000, BEAT_MS = 30000, QUIET_MS = 60000;

const body = document.getElementById("rows");
const news = document.getElementById("news"), beside = document.getElementById("beside");
const asServed = new Map();
let tag = null, fresh = null, selected = null, lastInput = Date.now();

const rowsOf = (parent) => [...parent.querySelectorAll("tr[data-uid]")];
const rowOf = (uid) => rowsOf(body).find((row) => row.dataset.uid === uid);

function parsed(text) {
  const template = document.createElement("template");
  template.innerHTML = text;
  return template.content;
}

function elapsed(date) {
  const minutes = Math.floor((Date.now() - date) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min ago` : `${Math.floor(minutes / 1440)} days ago`;
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    if (!time.dateTime) continue;
    time.title = time.title || time.textContent;
    time.textContent = elapsed(new Date(time.dateTime));
  }
}

// When each process was last seen alive comes with every poll, also when nothing else has changed.
function tellSeen(seen) {
  for (const [process, moment] of seen.split(", ").map((part) => part.split("="))) {
    for (const time of document.querySelectorAll(`time[data-process="${process}"]`)) time.dateTime = time.title = moment;
  }
  tellTimes();
}

function tellBeside(content) {
  const now = content.querySelector("#beside-now");
  now?.remove();
  if (now) beside.replaceChildren(now.content);
}

function select(row, focus = true) {
  if (!row) return;
  body.querySelector("tr.selected")?.classList.remove("selected");
  row.classList.add("selected");
  selected = row.dataset.uid;
  if (focus) row.querySelector("a.study").focus();
}

function step(by) {
  const rows = rowsOf(body);
  const at = rows.findIndex((row) => row.dataset.uid === selected);
  select(rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))]);
}

// A row that is shown already changes where it stands; its focus stays.
function refresh(content) {
  for (const row of rowsOf(content)) {
    const old = rowOf(row.dataset.uid);
    const html = row.innerHTML;
    if (old && asServed.get(row.dataset.uid) !== html) {
      const hadFocus = old.contains(document.activeElement);
      old.innerHTML = html;
      old.className = row.className + (row.dataset.uid === selected ? " selected" : "");
      if (hadFocus) old.querySelector("a.study").focus();
    }
    asServed.set(row.dataset.uid, html);
  }
  tellTimes();
}

function takeIn() {
  if (fresh === null) return;
  const hadFocus = body.contains(document.activeElement);
  const content = parsed(fresh);
  tellBeside(content);
  body.replaceChildren(content);
  window.htmx.process(body);
  fresh = null;
  news.hidden = true;
  select(rowOf(selected), hadFocus);
  tellTimes();
}

function tellNews(content) {
  const uids = rowsOf(content).map((row) => row.dataset.uid);
  const here = rowsOf(body).map((row) => row.dataset.uid);
  const isSame = uids.length <= here.length && uids.every((uid, i) => uid === here[i]);
  if (isSame) return false;
  const end = selected === null ? 0 : uids.indexOf(selected);
  const isNew = (uid) => !here.includes(uid);
  const above = uids.slice(0, Math.max(0, end)).filter(isNew).length, all = uids.filter(isNew).length;
  news.textContent = above ? `${above} new above` : all ? `${all} new` : "the order has changed";
  news.textContent += " (r takes it in)";
  news.hidden = false;
  return true;
}

async function poll() {
  if (document.hidden || !body.dataset.poll) return;
  try {
    const answer = await fetch(body.dataset.poll, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 401) location.assign("/login");
    if (answer.status === 304 || answer.ok) answered();
    tellSeen(answer.headers.get("X-Seen-At") ?? "");
    if (answer.status !== 200) return;
    tag = answer.headers.get("ETag");
    const text = await answer.text(), content = parsed(text);
    tellBeside(content);
    fresh = tellNews(content) ? text : null;
    refresh(content);
  } catch {
    // no answer: after 15 s the page says that it is out of date
  }
}

for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) {
  document.addEventListener(kind, () => { lastInput = Date.now(); }, { passive: true });
}
body.addEventListener("focusin", (event) => select(event.target.closest("tr[data-uid]"), false));
body.addEventListener("dblclick", (event) => event.target.closest("tr[data-uid]")?.querySelector("a.study").click());
document.querySelector(".filters").addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
});
news.addEventListener("click", takeIn);
onKeys({
  j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1), r: takeIn,
  Enter: () => rowOf(selected)?.querySelector("a.study").click(),
});

setInterval(poll, POLL_MS);
setInterval(() => { if (Date.now() - lastInput > QUIET_MS) takeIn(); }, 5000);
setInterval(() => { if (!document.hidden) send("/beat", { input: takeInput() }); }, BEAT_MS);
setInterval(tellTimes, 20000);
document.addEventListener("visibilitychange", poll);
if (!body.dataset.poll) setInterval(answered, POLL_MS);
for (const row of rowsOf(body)) asServed.set(row.dataset.uid, row.innerHTML);
tellTimes();
