// The list: keys, polling while the tab is seen, and taking in what is new without moving the row under the cursor.

import { onKeys } from "/static/keys.js";
import { answered, keepInTouch, send, takeInput } from "/static/page.js";

const POLL_MS = 5000, BEAT_MS = 30000, QUIET_MS = 60000;

const body = document.getElementById("rows");
const news = document.getElementById("news"), beside = document.getElementById("beside");
const asServed = new Map();
let tag = null, latest = null, selected = null, place = 0, lastInput = Date.now();

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
  if (!now) return;
  beside.replaceChildren(now.content);
  const { total } = now.dataset;
  document.querySelector("h1 .count").textContent = `${total} ${total === "1" ? "study" : "studies"}`;
}

function select(row, focus = true) {
  if (!row) return;
  body.querySelector("tr.selected")?.classList.remove("selected");
  row.classList.add("selected");
  selected = row.dataset.uid;
  place = rowsOf(body).indexOf(row);
  if (focus) row.querySelector("a.study").focus();
}

function step(by) {
  const rows = rowsOf(body);
  const at = rows.findIndex((row) => row.dataset.uid === selected);
  const to = at >= 0 ? at + by : place; // a row that is gone leaves its place
  select(rows[Math.min(rows.length - 1, Math.max(0, to))]);
}

// What changes above the row under the cursor, or else the selected one, moves the page and not that row.
function inPlace(deed) {
  const row = body.querySelector("tr[data-uid]:hover") ?? rowOf(selected), before = row?.getBoundingClientRect().top;
  deed();
  if (row && before > 0 && before < window.innerHeight) window.scrollBy(0, row.getBoundingClientRect().top - before);
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

// The pages that were opened below the first one stay open.
async function withPages(content, most) {
  for (let more; (more = content.querySelector("tr.more button")) && rowsOf(content).length < most;) {
    const answer = await fetch(more.getAttribute("hx-get"), { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    more.closest("tr").replaceWith(parsed(await answer.text()));
  }
  return content;
}

async function takeIn() {
  if (news.hidden) return;
  try {
    const content = await withPages(parsed(latest), rowsOf(body).length);
    const hadFocus = body.contains(document.activeElement) || document.activeElement === news;
    tellBeside(content);
    body.replaceChildren(content);
    window.htmx.process(body);
    asServed.clear();
    for (const row of rowsOf(body)) asServed.set(row.dataset.uid, row.innerHTML);
    select(rowOf(selected), hadFocus);
    tell(latest); // a poll may have been answered meanwhile
  } catch {
    // no answer: it is taken in later
  }
}

// The bar is there as long as there is something to take in.
function tellNews(content) {
  const uids = rowsOf(content).map((row) => row.dataset.uid);
  const here = rowsOf(body).map((row) => row.dataset.uid);
  news.hidden = uids.length <= here.length && uids.every((uid, i) => uid === here[i]);
  if (news.hidden) return;
  const end = selected === null ? 0 : uids.indexOf(selected);
  const isNew = (uid) => !here.includes(uid);
  const above = uids.slice(0, Math.max(0, end)).filter(isNew).length, all = uids.filter(isNew).length;
  news.textContent = above ? `${above} new above` : all ? `${all} new` : "the order has changed";
  news.textContent += " (r takes it in)";
}

function tell(text) {
  const content = parsed(text);
  inPlace(() => {
    tellBeside(content);
    tellNews(content);
    refresh(content);
  });
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
    tell(latest = await answer.text());
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
setInterval(tellTimes, 20000);
document.addEventListener("visibilitychange", poll);
if (body.dataset.poll) setInterval(() => { if (!document.hidden) send("/beat", { input: takeInput() }); }, BEAT_MS);
else keepInTouch();
for (const row of rowsOf(body)) asServed.set(row.dataset.uid, row.innerHTML);
tellTimes();
