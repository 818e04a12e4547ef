// Single keys. They do nothing in fields, in dialogs, with a modifier that they do not name, on key repeat, or when
// the person has turned them off (WCAG 2.1.4).

const FIELDS = "input:not([type=radio]):not([type=range]), select, textarea, [contenteditable]";
const PRESSED_BY_ENTER = "a, button, summary, select, textarea";

export function onKeys(table) {
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const name = (event.ctrlKey ? "Ctrl+" : "") + (event.shiftKey && event.key.length > 1 ? "Shift+" : "") + event.key;
    const isOff = document.documentElement.dataset.keys === "off" && !event.ctrlKey && event.key.length === 1;
    const inField = event.target.matches(FIELDS) && name !== "Ctrl+Enter";
    const isNative = event.key === "Enter" && !event.ctrlKey && event.target.matches(PRESSED_BY_ENTER);
    const deed = table[name];
    if (!deed || isOff || inField || isNative) return;
    event.preventDefault();
    deed();
  });
}
