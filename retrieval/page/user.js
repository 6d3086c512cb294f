// History and interests of the user.

import { add, ago, counted, day, moment, past } from "./words.js";

const TICK_MS = 20_000;
const history = document.getElementById("history");
const interests = document.getElementById("interests");
const nEvents = document.getElementById("history-count");
const tier = document.getElementById("interests-tier");

export const hue = (interest) => (interest >= 0 ? `var(--hue-${interest % 8})` : "var(--faint)");

/** Shows a user, or one nobody knows (null); freshItem is the item of an event that just came. */
export function showUser(user, freshItem = "") {
  const recent = user?.recent ?? [];
  nEvents.textContent = user ? counted(user.n_events, "event") + (user.n_events > recent.length && recent.length ? `, newest ${recent.length}` : "") : "";
  tier.textContent = user?.interests.length ? user.tier : "";
  history.replaceChildren(...timeline(recent, freshItem));
  if (!recent.length) words(history, "li", "No events yet. Click an item of the feed to begin.");
  const groups = (user?.interests ?? []).map(group);
  interests.replaceChildren(...groups);
  if (!groups.length) words(interests, "p", "Interests appear with the first event.");
}

/** Empties both while another user's are on their way. */
export function clearUser() {
  for (const element of [nEvents, tier, history, interests]) element.replaceChildren();
}

function timeline(recent, freshItem) {
  const lines = document.createDocumentFragment();
  let last = "";
  recent.forEach((event, at) => {
    const date = day(event.event_time_ms);
    if (date !== last) add(lines, "li", "day", date);
    last = date;
    const line = add(lines, "li", "event");
    line.dataset.action = event.action;
    line.classList.toggle("fresh", at === 0 && event.item_id === freshItem);
    add(line, "span", "title", event.title);
    const when = add(line, "p", "when", past(event.action) + " ");
    const time = add(when, "time");
    time.dateTime = new Date(event.event_time_ms).toISOString();
    time.title = moment(event.event_time_ms);
    time.dataset.ms = event.event_time_ms;
    time.textContent = date === "Today" ? ago(event.event_time_ms) : "";
  });
  return lines.children;
}

setInterval(() => {
  for (const time of history.querySelectorAll("time")) if (time.textContent) time.textContent = ago(Number(time.dataset.ms));
}, TICK_MS);

function group(interest) {
  const box = document.createElement("article");
  box.className = "interest";
  box.style.setProperty("--hue", hue(interest.interest));
  const head = add(box, "header");
  add(head, "h3", "", interest.name);
  add(head, "span", "weight", `${Math.round(interest.weight * 100)}%`).title = "Its share of the feed";
  add(add(box, "div", "share"), "i").style.width = `${(interest.weight * 100).toFixed(1)}%`;
  const list = add(box, "ul");
  for (const item of interest.items) add(list, "li", "", item.title);
  return box;
}

function words(parent, tag, text) {
  add(parent, tag, "empty", text);
}
