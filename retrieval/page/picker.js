// The user picker: a combobox over known ids; any other id names a new user.

import { findUsers } from "./api.js";
import { add } from "./user.js";

const input = document.getElementById("who");
const list = document.getElementById("people");
let chosen = -1;
let asked = 0;

export function setUpPicker(onPick, onProblem) {
  input.addEventListener("input", () => refresh(onProblem));
  input.addEventListener("focus", () => {
    input.select();
    refresh(onProblem);
  });
  input.addEventListener("blur", () => setTimeout(close, 120));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      const user = options()[chosen]?.dataset.user ?? input.value.trim();
      if (user) pick(user, onPick);
    } else if (event.key === "Escape") {
      close();
    }
  });
  list.addEventListener("pointerdown", (event) => {
    const option = event.target.closest("[data-user]");
    if (option) {
      event.preventDefault();
      pick(option.dataset.user, onPick);
    }
  });
}

export function showPicked(user) {
  input.value = user;
}

export function focusPicker() {
  input.focus();
}

function pick(user, onPick) {
  showPicked(user);
  close();
  input.blur();
  onPick(user);
}

async function refresh(onProblem) {
  const turn = ++asked;
  try {
    const typed = input.value.trim();
    const { users } = await findUsers(typed);
    if (turn !== asked || document.activeElement !== input) return;
    show(users, typed);
  } catch (error) {
    onProblem(error.message);
  }
}

function show(users, typed) {
  const lines = document.createDocumentFragment();
  users.forEach((user, at) => {
    const line = add(lines, "li");
    line.setAttribute("role", "option");
    line.id = `person-${at}`;
    line.dataset.user = user.user_id;
    add(line, "span", "", user.user_id);
    add(line, "span", "quiet", `${user.n_events.toLocaleString("en")} events`);
  });
  if (typed && !users.some((user) => user.user_id === typed)) {
    const line = add(lines, "li");
    line.setAttribute("role", "option");
    line.id = "person-new";
    line.dataset.user = typed;
    add(line, "span", "", `“${typed}”`);
    add(line, "span", "quiet", "new user");
  }
  if (!lines.children.length) add(lines, "li", "none", "No users yet: type a name to be the first.");
  list.replaceChildren(lines);
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  chosen = -1;
}

function choose(at) {
  const all = options();
  chosen = Math.max(-1, Math.min(all.length - 1, at));
  all.forEach((option, index) => option.setAttribute("aria-selected", String(index === chosen)));
  all[chosen]?.scrollIntoView({ block: "nearest" });
  if (all[chosen]) input.setAttribute("aria-activedescendant", all[chosen].id);
  else input.removeAttribute("aria-activedescendant");
}

function close() {
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
  chosen = -1;
}

function options() {
  return [...list.querySelectorAll("[data-user]")];
}
