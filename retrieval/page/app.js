// One user at a time: the open feed drives everything; history and interests follow its pushes.

import { act, forgetActs, settle } from "./acts.js";
import { findUsers, getUser } from "./api.js";
import { clearFeed, elementOf, onAct, showFeed, showReasons, step } from "./feed.js";
import { clearHops, showHops } from "./hops.js";
import { focusPicker, setUpPicker, showPicked } from "./picker.js";
import { openFeed } from "./stream.js";
import { clearUser, showUser } from "./user.js";
import { counted, time } from "./words.js";

const at = (name) => document.getElementById(name);
const [link, speed, notice, degraded, source, changes, meta, spoken] = ["link", "speed", "notice", "degraded", "source", "changes", "feed-meta", "spoken"].map(at);

let stream = null;
let user = "";
let known; // what the recommender last said of the user; null when it knows nobody of that name
let shown = null; // the newest push
let shownMs = 0;

/** Turns to a user. `how` is the name of the history's method: pushState for a step that Back undoes. */
function watch(next, how = "pushState") {
  stream?.close();
  user = next;
  known = shown = null;
  document.title = `${user} · Freshet`;
  if (how) history[how](null, "", `?user=${encodeURIComponent(user)}`);
  showPicked(user);
  forgetActs();
  clearFeed();
  clearUser();
  clearHops();
  for (const element of [source, changes, meta, speed]) element.textContent = "";
  degraded.hidden = true;
  say("");
  setLink("waiting", "connecting");
  stream = openFeed(user, {
    onBeat: () => setLink("live", "live"),
    onFeed: show,
    onProblem: (reason) => lost("reconnecting", `The feed is interrupted: ${reason}`),
    onRefused: (reason) => lost("refused", reason),
    onLost: () => lost("reconnecting", "The page's server does not answer; it is asked again and again."),
    onPaused: () => setLink("waiting", "paused"),
  });
}

function show(push) {
  const { feed, cause } = push;
  const isFirst = !shown;
  shown = push;
  shownMs = Date.now();
  setLink("live", "live");
  say("");
  const changed = showFeed(feed.items, { animate: !isFirst });
  showReasons(known, reasonOf(feed));
  const clickMs = settle(push, elementOf);
  source.textContent = `from ${feed.source}`;
  meta.textContent = feed.model_version ? `model ${feed.model_version} · record ${feed.encoded_offset}` : "";
  followUser(isFirst, changed, clickMs);
}

/** History and interests as of the newest push, and then the names that its cause and reasons need. */
async function followUser(isFirst, changed, clickMs) {
  const push = shown;
  const item = push.cause?.item_id;
  const isCaused = !isFirst && item && push.since_event_ms > 0;
  let failure = "";
  try {
    const found = await getUser(user);
    if (push !== shown) return;
    known = found;
    showUser(known, isCaused ? item : "");
  } catch (error) {
    if (push !== shown) return;
    failure = `History and interests are not to be had: ${error.message}`;
  }
  showReasons(known, reasonOf(push.feed));
  degraded.hidden = !push.feed.degraded_reason;
  degraded.textContent = sentence(push.feed.degraded_reason);
  degraded.dataset.tone = known === null && !failure ? "calm" : "warn";
  const title = (known?.recent ?? []).find((event) => event.item_id === item)?.title ?? item;
  if (isCaused) {
    showHops(push, title, clickMs);
    speed.textContent = `${Math.round(push.since_event_ms)} ms`;
  }
  if (!isFirst) tell(changed, isCaused ? title : "", push.since_event_ms);
  if (failure) say(failure);
}

function tell({ nNew, nMoved, gone }, title, ms) {
  const left = gone.length && `${gone.length} gone: ${gone.join(", ")}`;
  const what = [nNew && `${nNew} new`, nMoved && `${nMoved} moved`, left].filter(Boolean).join(" · ");
  changes.textContent = changes.title = what;
  const after = title ? `${Math.round(ms)} milliseconds after ${title}` : "";
  if (what) spoken.textContent = `The feed changed ${after}: ${counted(nNew, "new item")}, ${nMoved} moved, ${gone.length} gone.`;
}

const reasonOf = (feed) => (feed.source.startsWith("trending") ? `${feed.source} now` : "");

function lost(state, reason) {
  setLink("lost", state);
  say(shown && state !== "refused" ? `${sentence(reason)} What stands below is from ${time(shownMs)}.` : sentence(reason));
}

function say(text) {
  if (notice.textContent === text) return;
  notice.hidden = !text;
  notice.textContent = text;
}

function setLink(state, text) {
  if (link.dataset.state === state && link.textContent === text) return;
  link.dataset.state = state;
  link.textContent = text;
  document.body.dataset.link = state;
}

const sentence = (text) => text && text[0].toUpperCase() + text.slice(1).replace(/\.?$/, ".");
const named = () => new URLSearchParams(location.search).get("user") ?? "";

async function start() {
  setUpPicker(watch);
  onAct((action, element) => act(element, { user, item: element.dataset.item, action, recommendation: shown.feed.recommendation_id }));
  addEventListener("popstate", () => named() && named() !== user && watch(named(), ""));
  addEventListener("keydown", (event) => {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      focusPicker();
    }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  if (named()) return watch(named(), "replaceState");
  try {
    const { users } = await findUsers("");
    watch(users[0]?.user_id ?? "guest", "replaceState");
  } catch (error) {
    setLink("lost", "disconnected");
    say(`The list of users is not to be had: ${error.message}. Load the page again, or name a user above.`);
  }
}

start();
