// Where the milliseconds went: one bar, one piece a hop, each hop in words.

import { add } from "./words.js";

const bar = document.getElementById("bar");
const legend = document.getElementById("legend");
const total = document.getElementById("total");
const pulse = document.getElementById("pulse");
const words = document.getElementById("pulse-words");
const meanings = {
  folded: "into the history",
  requested: "waited for the model",
  encoded: "interests computed",
  published: "written to Kafka",
  received: "read by the recommender",
  searched: "Milvus, then the merge",
  pushed: "sent to this page",
};

/** Shows the hops of a push that an event caused; clickMs is null for an event from elsewhere. */
export function showHops(push, title, clickMs) {
  const ms = push.since_event_ms;
  pulse.classList.add("is-shown");
  total.textContent = ms < 10_000 ? Math.round(ms) : `${(ms / 1000).toFixed(1)} k`;
  words.textContent = `from “${title}” to this feed` + (clickMs === null ? "" : `; ${Math.round(clickMs)} ms from your click`);
  bar.replaceChildren();
  legend.replaceChildren();
  push.hops.forEach((hop, at) => {
    const colour = `var(--hop-${at % 7})`;
    const piece = add(bar, "i");
    piece.style.setProperty("--hop", colour);
    piece.style.flexGrow = Math.max(hop.ms, 0.01);
    const line = add(legend, "li");
    line.style.setProperty("--hop", colour);
    add(line, "span", "hop", hop.name);
    add(line, "b", "", hop.ms < 10 ? hop.ms.toFixed(1) : Math.round(hop.ms).toString());
    add(line, "span", "meaning", meanings[hop.name] ?? "");
  });
}

export function clearHops() {
  pulse.classList.remove("is-shown");
  total.textContent = "";
  words.textContent = "Click, like or dismiss something: its way through the system shows here.";
  bar.replaceChildren();
  legend.replaceChildren();
}
