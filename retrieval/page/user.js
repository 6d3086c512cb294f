// History and interests of the user.

import { hue } from "./feed.js";

const history = document.getElementById("history");
const interests = document.getElementById("interests");
const nEvents = document.getElementById("history-count");
const tier = document.getElementById("interests-tier");
const verbs = { click: "clicked", like: "liked", dismiss: "dismissed", view: "viewed", play: "played", purchase: "bought" };

/** Shows a user, or a user nobody knows (null). */
export function showUser(user, freshItem) {
  nEvents.textContent = user ? `${user.n_events.toLocaleString("en")} ${user.n_events === 1 ? "event" : "events"}` : "";
  tier.textContent = user?.interests.length ? user.tier : "";
  history.replaceChildren(...(user?.recent ?? []).map((event, at) => eventLine(event, at === 0 && event.item_id === freshItem)));
  if (!user?.recent.length) history.replaceChildren(words("No events yet. Click an item of the feed to begin."));
  const groups = (user?.interests ?? []).slice().sort((a, b) => b.weight - a.weight).map(group);
  interests.replaceChildren(...(groups.length ? groups : [words("Interests appear with the first event.")]));
}

function eventLine(event, isFresh) {
  const line = document.createElement("li");
  line.dataset.action = event.action;
  const title = add(line, "span", "title", event.title);
  title.classList.toggle("fresh", isFresh);
  add(line, "span", "when", `${verbs[event.action] ?? event.action} ${ago(event.event_time_ms)}`);
  return line;
}

function group(interest) {
  const box = document.createElement("article");
  box.className = "interest";
  box.style.setProperty("--hue", hue(interest.interest));
  const head = add(box, "header");
  add(head, "h3", "", nameOf(interest));
  add(head, "span", "weight", `${Math.round(interest.weight * 100)}%`);
  const share = add(add(box, "div", "share"), "i");
  share.style.width = `${(interest.weight * 100).toFixed(1)}%`;
  const list = add(box, "ul");
  for (const item of interest.items) add(list, "li", "", item.title);
  return box;
}

/** An interest is called after the categories that most of its items share. */
function nameOf(interest) {
  const counts = new Map();
  for (const item of interest.items) for (const name of item.categories) counts.set(name, (counts.get(name) ?? 0) + 1);
  const shared = [...counts].filter(([, n]) => n * 2 >= interest.items.length).sort((a, b) => b[1] - a[1]);
  return shared.slice(0, 2).map(([name]) => name).join(", ") || `Interest ${interest.interest + 1}`;
}

function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  if (seconds < 5) return "just now";
  const steps = [[60, "second"], [60, "minute"], [24, "hour"], [365, "day"], [Infinity, "year"]];
  let value = seconds;
  for (const [size, unit] of steps) {
    if (value < size) return `${Math.floor(value)} ${unit}${Math.floor(value) === 1 ? "" : "s"} ago`;
    value /= size;
  }
  return "";
}

function words(text) {
  const line = document.createElement("p");
  line.className = "empty";
  line.textContent = text;
  return line;
}

export function add(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return parent.appendChild(element);
}
