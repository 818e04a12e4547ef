// The page of a study: the viewer's tools, the verdict's keys, the hold, and letting go when the page is left.

import { onKeys } from "/static/keys.js";
import { answered, leave, send, takeInput } from "/static/page.js";
import { fetchPicture } from "/static/pixels.js";
import { Viewer } from "/static/viewer.js";

const BEAT_MS = 10000, SENT_MS = 30000;
const ENTERED = "[name=outcome]:is(:checked, [type=hidden]), [name=comment], [name=reason]";

const study = document.getElementById("study"), { path, opening, revision, screening } = study.dataset;
const byId = (id) => document.getElementById(id);
const image = byId("image"), form = byId("verdict"), presets = byId("window");
let isAsking = false, leavingBy = null, hasFetchedNext = false, heatOf = null;

const TELL = {
  note: (text) => { byId("note").textContent = text; },
  value: (text) => { byId("value").textContent = text || "\u00a0"; },
  zoom: (zoom) => {
    byId("canvas").dataset.zoom = zoom;
    byId("zoom").textContent = `${Math.round(100 * zoom)} %`;
  },
  window: (index) => { presets.selectedIndex = index; },
  reset: () => {
    pressed("invert", false);
    TELL.note("");
  },
  opened: (facts) => {
    byId("length").hidden = facts.spacing === null;
    const byHand = new Option("by hand");
    byHand.disabled = true;
    presets.replaceChildren(...viewer.presets.map((preset) => new Option(preset.label)), byHand);
    presets.selectedIndex = viewer.preset;
    if (form) setTimeout(fetchNext, 300);
  },
};
const viewer = byId("canvas") ? new Viewer(byId("canvas"), (what, value) => TELL[what]?.(value)) : null;
window.viewer = viewer;

// While one reads, the picture that comes next is fetched into the browser's cache; once a page.
async function fetchNext() {
  if (hasFetchedNext) return;
  hasFetchedNext = true;
  try {
    const { digests } = await (await fetch(`${path}/next`)).json();
    for (const part of digests.flatMap((digest) => ["pixels", "facts", "half"].map((kind) => `${digest}/${kind}`))) {
      await (await fetch(`/picture/${part}`, { priority: "low" })).arrayBuffer();
    }
  } catch {
    // it is fetched when it is opened
  }
}

function pressed(id, isOn) {
  byId(id)?.setAttribute("aria-pressed", String(isOn));
}

function openImage() {
  heatOff();
  byId("note").textContent = "";
  viewer.open(image.value);
}

function heatOff() {
  viewer.heat = null;
  pressed("heat", false);
  byId("heat-words").hidden = true;
  if (byId("opacity-label")) byId("opacity-label").hidden = true;
}

// Off until it is asked for: only then is it fetched, and the audit has it.
async function toggleHeat() {
  if (!study.dataset.heat || !image.value) return;
  if (viewer.heat) {
    heatOff();
  } else if (image.selectedOptions[0].dataset.heat === "1") {
    const digest = image.value;
    if (heatOf?.digest !== digest) heatOf = { digest, picture: await fetchPicture(`${path}/heat/${digest}`) };
    viewer.heat = heatOf.picture;
    pressed("heat", true);
    byId("heat-words").hidden = false;
    byId("opacity-label").hidden = false;
  } else {
    TELL.note("the model made no heat map of this image");
  }
  viewer.draw();
}

function invert() {
  viewer.invert();
  pressed("invert", viewer.isInverted);
}

function measure() {
  viewer.isMeasuring = !viewer.isMeasuring;
  viewer.isLineOpen = false;
  pressed("length", viewer.isMeasuring);
}

if (viewer && image.value) {
  const on = (id, deed) => byId(id)?.addEventListener("click", deed);
  image.addEventListener("change", openImage);
  presets.addEventListener("change", () => viewer.choose(presets.selectedIndex));
  on("invert", invert);
  on("fit", () => viewer.fit());
  on("full", () => viewer.full());
  on("zoom-in", () => viewer.zoomBy(1.25));
  on("zoom-out", () => viewer.zoomBy(0.8));
  on("turn", () => viewer.turn());
  on("length", measure);
  on("heat", toggleHeat);
  on("reset", () => { heatOff(); viewer.reset(); });
  byId("opacity")?.addEventListener("input", (event) => {
    viewer.opacity = event.target.value / 100;
    viewer.draw();
  });
  onKeys({ h: toggleHeat, i: invert, w: () => viewer.nextWindow(), f: () => viewer.fit(), 1: () => viewer.full() });
  openImage();
}

// The button says what it stores, and has the focus: wherever that was, Enter is the next step.
function choose(outcome) {
  if (!form) return;
  form.querySelector(`input[value="${outcome}"]`).checked = true;
  tellChosen();
  form.querySelector("button.main").focus();
}

function tellChosen() {
  const chosen = form.querySelector("input[name=outcome]:checked");
  if (chosen) form.querySelector("button.main").textContent = `Confirm: ${chosen.value.replace("_", " ")} (Enter)`;
}
form?.addEventListener("change", tellChosen);
if (form) tellChosen();

// A key chooses, Enter confirms: no single key writes a verdict.
function confirm() {
  if (form?.querySelector("input[name=outcome]:checked")) form.requestSubmit();
}

onKeys({
  p: () => choose("pneumonia"), o: () => choose("no_pneumonia"), u: () => choose("uncertain"),
  x: () => choose("not_assessable"), c: () => byId("comment")?.focus(), Enter: confirm, "Ctrl+Enter": confirm,
});

// Whether a verdict was chosen or something typed that would be lost with the page.
function isUnsent() {
  return [...study.querySelectorAll(ENTERED)].some((field) => field.form !== leavingBy && field.value.trim());
}

// What was typed stays; the patient's data go from the screen, as they do with the page.
function loggedOut(to = "/login") {
  if (!isUnsent()) location.assign(to);
  byId("over").hidden = false;
  study.classList.add("over");
}

async function ask(where, fields) {
  const answer = await send(where, fields, loggedOut);
  if (answer?.status === 403) loggedOut("/"); // logged in anew in another tab: the forms here are of the old session
  return answer;
}

// A form of the study is sent once, and only when the server takes it: else what was typed would be lost with the page.
document.addEventListener("submit", async (event) => {
  const sent = event.target;
  if (!sent.closest("#study") || event.defaultPrevented) return;
  event.preventDefault();
  if (isAsking || leavingBy) return;
  isAsking = true;
  const answer = await ask("/beat", { input: takeInput() });
  isAsking = false;
  byId("unsent").hidden = answer !== null && answer.status < 500;
  if (!answer?.ok) return;
  leavingBy = sent;
  sent.submit();
  setTimeout(() => { leavingBy = null; }, SENT_MS);
});
function askFirst(event) {
  if (!isUnsent()) return;
  event.preventDefault();
  setTimeout(() => { leavingBy = null; }); // the answer may be to stay
}
window.addEventListener("beforeunload", askFirst);
window.addEventListener("pagehide", () => {
  if (opening && !leavingBy) leave(`${path}/release`, { opening });
});
// A page that comes back from the browser's memory has let go: it is loaded again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  window.removeEventListener("beforeunload", askFirst);
  location.reload();
});

async function beat() {
  if (document.hidden) return answered();
  const answer = await ask(`${path}/beat`, { input: takeInput(), revision, screening });
  if (!answer?.ok) return null;
  byId("changed").hidden = answer.headers.get("X-Changed") !== "yes";
  byId("lost").hidden = !(opening && answer.headers.get("X-Holder") === "other");
  return null;
}

setInterval(beat, BEAT_MS);
document.addEventListener("visibilitychange", beat); // it may be another person's screen by now
