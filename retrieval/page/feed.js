// The feed: keeps each item's element while it stays, so that focus stays too, and shows what moved.

const FADE_MS = 6000;
const template = document.getElementById("item");
const list = document.getElementById("feed");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const hue = (interest) => (interest >= 0 ? `var(--hue-${interest % 8})` : "var(--faint)");

/** Shows the items and returns how many are new to the list. */
export function showFeed(items, { animate }) {
  const before = new Map([...list.querySelectorAll(".item")].map((el, at) => [el.dataset.item, { el, at, top: el.getBoundingClientRect().top }]));
  const focused = focusedRank();
  const elements = items.map((item, at) => filled(before.get(item.item_id)?.el, item, at));
  list.replaceChildren(...(elements.length ? elements : [nothing()]));
  const isChange = animate && before.size > 0;
  let nNew = 0;
  elements.forEach((element, at) => {
    const old = before.get(element.dataset.item);
    if (isChange && !old) nNew += 1;
    mark(element, isChange ? way(old, at) : null);
    if (isChange && old) slide(element, old.top);
  });
  restoreFocus(focused);
  return nNew;
}

function filled(element, item, at) {
  const made = element ?? template.content.firstElementChild.cloneNode(true);
  made.dataset.item = item.item_id;
  made.dataset.title = item.title;
  made.classList.remove("sent");
  made.style.setProperty("--hue", hue(item.interest));
  made.querySelector(".rank").textContent = at + 1;
  made.querySelector(".title").textContent = item.title;
  made.querySelector(".tags").textContent = item.categories.join(" · ");
  made.querySelector(".score").textContent = item.interest >= 0 ? item.score.toFixed(2) : Math.round(item.score);
  made.tabIndex = at === 0 ? 0 : -1;
  for (const button of made.querySelectorAll("button")) button.tabIndex = -1;
  made.setAttribute("aria-label", `${at + 1}. ${item.title}`);
  return made;
}

function way(old, at) {
  if (!old) return ["new", "new"];
  if (old.at > at) return ["up", `↑ ${old.at - at}`];
  if (old.at < at) return ["down", `↓ ${at - old.at}`];
  return null;
}

function mark(element, moved) {
  const badge = element.querySelector(".moved");
  clearTimeout(Number(badge.dataset.timer));
  badge.className = "moved";
  badge.dataset.way = moved ? moved[0] : "";
  badge.textContent = moved ? moved[1] : "";
  element.classList.toggle("new", Boolean(moved) && moved[0] === "new");
  if (moved) badge.dataset.timer = setTimeout(() => badge.classList.add("fading"), FADE_MS);
}

function slide(element, top) {
  const distance = top - element.getBoundingClientRect().top;
  if (!distance || calm.matches) return;
  element.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
}

function nothing() {
  const empty = document.createElement("li");
  empty.className = "empty";
  empty.textContent = "Nothing to show yet. Once events arrive, what is trending appears here.";
  return empty;
}

function items() {
  return [...list.querySelectorAll(".item")];
}

function focusedRank() {
  return items().findIndex((element) => element.contains(document.activeElement));
}

function restoreFocus(rank) {
  if (rank < 0 || focusedRank() >= 0) return;
  const all = items();
  all[Math.min(rank, all.length - 1)]?.focus({ preventScroll: true });
}

/** Moves the focus by one item. */
export function step(by) {
  const all = items();
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
  const keys = { Enter: "click", l: "like", x: "dismiss" };
  list.addEventListener("keydown", (event) => {
    const item = event.target.closest(".item");
    if (!item || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target !== item && event.key === "Enter") return;
    if (keys[event.key]) act(keys[event.key], item);
  });
}
