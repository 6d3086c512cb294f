// The user picker: a combobox over known ids; any other id names a new user.

import { findUsers } from "./api.js";
import { add, counted } from "./words.js";

const input = document.getElementById("who");
const list = document.getElementById("people");
let current = "";
let chosen = -1;
let asked = 0;

export function setUpPicker(onPick) {
  input.addEventListener("input", () => refresh(input.value.trim()));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => list.hidden && refresh(""));
  input.addEventListener("blur", () => {
    close();
    input.value = current;
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) refresh(input.value.trim() === current ? "" : input.value.trim());
      else choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      const user = options()[chosen]?.dataset.user ?? input.value.trim();
      if (user) pick(user, onPick);
    } else if (event.key === "Escape") {
      if (list.hidden) input.value = current;
      close();
    }
  });
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[data-user]");
    if (option) pick(option.dataset.user, onPick);
  });
}

export function showPicked(user) {
  current = user;
  input.value = user;
}

export function focusPicker() {
  input.focus();
}

function pick(user, onPick) {
  showPicked(user);
  input.blur();
  onPick(user);
}

async function refresh(typed) {
  const turn = ++asked;
  let found;
  try {
    found = await findUsers(typed);
  } catch (error) {
    found = { users: [], note: `The list is not to be had: ${error.message}` };
  }
  if (turn === asked && document.activeElement === input) show(found, typed);
}

function show({ users, next, note }, typed) {
  list.replaceChildren();
  for (const user of users) option(user.user_id, user.user_id, counted(user.n_events, "event"));
  const isNew = typed && !users.some((user) => user.user_id === typed);
  if (isNew) option(typed, `“${typed}”`, note ? "go there" : "new user");
  const more = next ? `The first ${users.length}: type the beginning of a name to see others.` : "";
  const none = users.length || isNew ? "" : "No users yet: type a name to be the first.";
  const words = note || more || none;
  if (words) remark(words);
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  choose(-1);
}

function option(user, name, remarked) {
  const line = add(list, "li");
  line.setAttribute("role", "option");
  line.setAttribute("aria-selected", "false");
  line.id = `person-${list.children.length}`;
  line.dataset.user = user;
  add(line, "span", "", name);
  add(line, "span", "quiet", remarked);
}

function remark(words) {
  const line = add(list, "li", "none", words);
  line.setAttribute("role", "option");
  line.setAttribute("aria-disabled", "true");
}

function choose(at) {
  const all = options();
  chosen = Math.max(-1, Math.min(all.length - 1, at));
  all.forEach((one, index) => one.setAttribute("aria-selected", String(index === chosen)));
  all[chosen]?.scrollIntoView({ block: "nearest" });
  if (all[chosen]) input.setAttribute("aria-activedescendant", all[chosen].id);
  else input.removeAttribute("aria-activedescendant");
}

function close() {
  asked += 1; // an answer that is still on its way opens nothing
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  choose(-1);
}

function options() {
  return [...list.querySelectorAll("[data-user]")];
}
