// The feed: keeps each item's element while it stays, so that focus stays too, and shows what moved.

import { add, past } from "./words.js";
import { hue } from "./user.js";

const FADE_MS = 6000;
const template = document.getElementById("item");
const list = document.getElementById("feed");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Shows the items; returns what changed: {nNew, nMoved, gone: titles}. */
export function showFeed(items, { animate }) {
  const before = new Map(elements().map((element, at) => [element.dataset.item, { element, at, top: element.getBoundingClientRect().top }]));
  const focused = { element: document.activeElement, at: focusedRank() };
  const isChange = animate && before.size > 0;
  const after = items.map((item, at) => filled(before.get(item.item_id)?.element, item, at));
  list.removeAttribute("aria-busy");
  list.replaceChildren(...after);
  if (!after.length) add(list, "li", "empty", "Nothing to show yet. Once events arrive, what is trending appears here.");
  const changed = { nNew: 0, nMoved: 0, gone: [] };
  after.forEach((element, at) => {
    const old = before.get(element.dataset.item);
    const moved = isChange ? way(old, at) : null;
    mark(element, moved);
    if (moved) changed[old ? "nMoved" : "nNew"] += 1;
    if (isChange && old) slide(element, old.top);
  });
  const stay = new Set(items.map((item) => item.item_id));
  if (isChange) changed.gone = [...before].filter(([item]) => !stay.has(item)).map(([, { element }]) => element.dataset.title);
  restoreFocus(focused);
  return changed;
}

/** Says at each item why it is there: the interest that found it, and the event it is nearest to. */
export function showReasons(user, sourceText) {
  const names = new Map((user?.interests ?? []).map((one) => [one.interest, one.name]));
  const wanted = (user?.recent ?? []).filter((event) => event.action !== "dismiss");
  const events = new Map(wanted.reverse().map((event) => [event.item_id, event]));
  for (const element of elements()) {
    const name = names.get(Number(element.dataset.interest)) ?? "";
    const event = element.dataset.because.split("\n").map((item) => events.get(item)).find(Boolean);
    const because = element.dataset.isNew === "true" ? "new in the catalogue" : event ? `because you ${past(event.action)} ${event.title}` : name ? "near this interest" : sourceText;
    element.querySelector(".interest-name").textContent = name;
    element.querySelector(".because").textContent = because;
    label(element);
  }
}

export function clearFeed() {
  list.replaceChildren();
  list.setAttribute("aria-busy", "true");
}

export function elementOf(item) {
  return elements().find((element) => element.dataset.item === item);
}

function filled(element, item, at) {
  const made = element ?? template.content.firstElementChild.cloneNode(true);
  Object.assign(made.dataset, { item: item.item_id, title: item.title, interest: item.interest, because: item.because.join("\n"), isNew: item.is_new, rank: at + 1 });
  made.style.setProperty("--hue", hue(item.interest));
  made.querySelector(".rank").textContent = at + 1;
  const title = made.querySelector(".title");
  title.textContent = title.title = item.title;
  made.querySelector(".categories").textContent = item.categories.join(" · ");
  const isMatch = item.interest >= 0;
  made.querySelector(".score").textContent = isMatch ? `match ${item.score.toFixed(2)}` : `${Math.round(item.score).toLocaleString("en")} points`;
  makeCurrent(made, at === 0);
  return made;
}

function label(element) {
  const { rank, title } = element.dataset;
  const parts = [".interest-name", ".because", ".moved"].map((name) => element.querySelector(name).textContent);
  element.setAttribute("aria-label", [`${rank}. ${title}`, ...parts].filter(Boolean).join(", "));
}

function way(old, at) {
  if (!old) return ["new", "new"];
  if (old.at > at) return ["up", `↑ ${old.at - at}`];
  return old.at < at ? ["down", `↓ ${at - old.at}`] : null;
}

function mark(element, moved) {
  const badge = element.querySelector(".moved");
  clearTimeout(Number(badge.dataset.timer));
  badge.className = "moved";
  badge.dataset.way = moved ? moved[0] : "";
  badge.textContent = moved ? moved[1] : "";
  element.classList.toggle("new", Boolean(moved) && moved[0] === "new");
  if (moved) badge.dataset.timer = setTimeout(() => badge.classList.add("fading"), FADE_MS);
  label(element);
}

function slide(element, top) {
  const distance = top - element.getBoundingClientRect().top;
  if (!distance || calm.matches) return;
  element.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
}

function elements() {
  return [...list.querySelectorAll(".item")];
}

function focusedRank() {
  return elements().findIndex((element) => element.contains(document.activeElement));
}

/** Focus goes with its item; where that is gone, to the one that has its place. */
function restoreFocus({ element, at }) {
  if (at < 0) return;
  const all = elements();
  const next = list.contains(element) ? element : all[Math.min(at, all.length - 1)];
  next?.focus({ preventScroll: true });
}

/** Tab reaches one item of the list, the current one, and its buttons. */
function makeCurrent(element, isCurrent) {
  element.tabIndex = isCurrent ? 0 : -1;
  for (const button of element.querySelectorAll(".acts button")) button.tabIndex = isCurrent ? 0 : -1;
}

/** Moves the focus by one item. */
export function step(by) {
  const all = elements();
  const at = focusedRank();
  const next = all[at < 0 ? 0 : Math.max(0, Math.min(all.length - 1, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** Calls act(action, item element) for buttons and keys. */
export function onAct(act) {
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button) act(button.dataset.action, button.closest(".item"));
  });
  list.addEventListener("focusin", (event) => {
    const current = event.target.closest(".item");
    for (const element of elements()) makeCurrent(element, element === current);
  });
  const keys = { Enter: "click", l: "like", x: "dismiss" };
  list.addEventListener("keydown", (event) => {
    const item = event.target.closest(".item");
    if (!item || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target !== item && event.key === "Enter") return;
    if (keys[event.key]) act(keys[event.key], item);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    }
  });
}
