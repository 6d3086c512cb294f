// What the reader does to items: shown at once, sent once, and said at the item when it fails.

import { publish } from "./api.js";
import { add, past } from "./words.js";

const FOLLOW_MS = 5000;
const spoken = document.getElementById("spoken");

/** Events of this user on their way: item id -> {event, atMs, offset?, error?}. */
let open = new Map();

export function forgetActs() {
  open = new Map();
}

/** Sends an event of an item, unless one of that item is on its way. */
export function act(element, fields) {
  const before = open.get(fields.item);
  if (before && !before.error) return;
  send(element, { event: { ...fields, event_id: newId() }, atMs: performance.now() });
}

async function send(element, one) {
  const { item, action } = one.event;
  const mine = open;
  one.error = "";
  mine.set(item, one);
  say(element, "sent", `${past(action)}`);
  try {
    one.offset = (await publish(one.event)).offset;
    setTimeout(() => mine.get(item) === one && release(mine, element, item), FOLLOW_MS);
  } catch (error) {
    if (mine !== open || !mine.has(item)) return;
    one.error = error.message;
    const line = say(element, "failed", `The ${action} was not sent: ${error.message}. `);
    const again = add(line, "button", "again", "Try again");
    again.type = "button";
    // The same event, id and all: had the first attempt arrived after all, this one counts as it.
    again.addEventListener("click", () => mine === open && send(element, one));
    spoken.textContent = line.firstChild.textContent;
  }
}

function release(mine, element, item) {
  mine.delete(item);
  if (mine === open) say(element, "waiting", "Stored, but the feed has not followed yet.");
}

/** Settles what a push includes; returns the milliseconds since the click that caused it, or null. */
export function settle(push, elementOf) {
  let clickMs = null;
  for (const [item, one] of [...open]) {
    const isCause = one.event.event_id === push.cause?.event_id;
    if (!isCause && !(one.offset <= push.feed.encoded_offset)) continue;
    if (isCause) clickMs = performance.now() - one.atMs;
    open.delete(item);
    const element = elementOf(item);
    if (element) say(element, "", "");
  }
  return clickMs;
}

function say(element, state, text) {
  const line = element.querySelector(".state");
  element.dataset.state = state;
  line.textContent = text;
  for (const button of element.querySelectorAll(".acts button")) button.setAttribute("aria-disabled", String(state === "sent"));
  return line;
}

// crypto.randomUUID is there on https and localhost only.
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
