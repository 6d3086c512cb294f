// Words for actions and moments, and the one way to make an element: text is text, never markup.

const pasts = { click: "clicked", like: "liked", dismiss: "dismissed", view: "viewed", play: "played", purchase: "bought" };
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium" });

export const past = (action) => pasts[action] ?? action;
export const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
export const moment = (ms) => moments.format(ms);
export const time = (ms) => clock.format(ms);

/** "Today", "Yesterday" or the date. */
export function day(ms) {
  const name = days.format(ms);
  if (name === days.format(Date.now())) return "Today";
  return name === days.format(Date.now() - 86_400_000) ? "Yesterday" : name;
}

/** How long ago, for a moment of the last hour; later on the clock's time. */
export function ago(ms) {
  const seconds = Math.max(0, Math.floor((Date.now() - ms) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${counted(seconds, "second")} ago`;
  return seconds < 3600 ? `${counted(Math.floor(seconds / 60), "minute")} ago` : time(ms);
}

export function add(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return parent.appendChild(element);
}
