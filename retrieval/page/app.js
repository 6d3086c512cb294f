// One user at a time: the open feed drives everything; history and interests follow its pushes.

import { findUsers, getUser, openFeed, publish } from "./api.js";
import { onAct, showFeed, step } from "./feed.js";
import { clearHops, showHops } from "./hops.js";
import { focusPicker, setUpPicker, showPicked } from "./picker.js";
import { showUser } from "./user.js";

const link = document.getElementById("link");
const notice = document.getElementById("notice");
const degraded = document.getElementById("degraded");
const source = document.getElementById("source");
const meta = document.getElementById("feed-meta");
const spoken = document.getElementById("spoken");

let stream = null;
let user = "";
let recommendation = "";
let titles = new Map();

function watch(next) {
  stream?.close();
  user = next;
  titles = new Map();
  document.title = `${user} · Freshet`;
  showPicked(user);
  clearHops();
  say("");
  setLink("waiting", "connecting");
  if (location.hash !== hashOf(user)) history.pushState(null, "", hashOf(user));
  let isFirst = true;
  stream = openFeed(user, {
    onLive: () => setLink("live", "live"),
    onFeed: (push) => {
      setLink("live", "live");
      say("");
      show(push, isFirst);
      isFirst = false;
    },
    onProblem: (reason) => {
      setLink("lost", "reconnecting");
      say(`The feed is interrupted: ${reason}`);
    },
    onRefused: (reason) => {
      setLink("lost", "refused");
      say(reason);
    },
    onLost: (isOver) => {
      setLink("lost", isOver ? "disconnected" : "reconnecting");
      say("The connection to the page's server is lost; trying to get it back.");
      if (isOver) setTimeout(() => user === next && watch(next), 3000);
    },
  });
}

function show(push, isFirst) {
  const { feed, cause } = push;
  recommendation = feed.recommendation_id;
  const nNew = showFeed(feed.items, { animate: !isFirst });
  for (const item of feed.items) titles.set(item.item_id, item.title);
  source.textContent = `from ${feed.source}`;
  degraded.hidden = !feed.degraded_reason;
  degraded.textContent = sentence(feed.degraded_reason);
  meta.textContent = feed.model_version ? `model ${feed.model_version} · record ${feed.encoded_offset}` : "";
  if (!isFirst && cause && push.since_event_ms > 0) {
    const title = titles.get(cause.item_id) ?? cause.item_id;
    showHops(push, title);
    spoken.textContent = `The feed changed ${Math.round(push.since_event_ms)} milliseconds after ${title}: ${nNew} new items.`;
  }
  refreshUser(isFirst ? "" : cause?.item_id);
}

async function refreshUser(freshItem) {
  const whose = user;
  try {
    const found = await getUser(whose);
    if (whose !== user) return;
    for (const event of found?.recent ?? []) titles.set(event.item_id, event.title);
    showUser(found, freshItem);
  } catch (error) {
    say(`History and interests are not to be had: ${error.message}`);
  }
}

async function act(action, item) {
  item.classList.add("sent");
  try {
    await publish({ user, item: item.dataset.item, action, recommendation });
  } catch (error) {
    item.classList.remove("sent");
    say(`The ${action} was not published: ${error.message}`);
  }
}

function say(text) {
  notice.hidden = !text;
  notice.textContent = text;
}

function setLink(state, text) {
  if (link.dataset.state === state && link.textContent === text) return;
  link.dataset.state = state;
  link.textContent = text;
}

const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + ".";
const hashOf = (name) => `#${encodeURIComponent(name)}`;
const fromHash = () => decodeURIComponent(location.hash.slice(1));

function follow() {
  const named = fromHash();
  if (named && named !== user) watch(named);
}

async function start() {
  setUpPicker(watch, say);
  onAct(act);
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  addEventListener("keydown", (event) => {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      focusPicker();
    }
    if (event.key === "j" || event.key === "ArrowDown") move(event, 1);
    if (event.key === "k" || event.key === "ArrowUp") move(event, -1);
  });
  if (fromHash()) return watch(fromHash());
  try {
    const { users } = await findUsers("");
    watch(users[0]?.user_id ?? "guest");
  } catch (error) {
    setLink("lost", "disconnected");
    say(`The list of users is not to be had: ${error.message}`);
  }
}

function move(event, by) {
  event.preventDefault();
  step(by);
}

start();
