// Where the milliseconds went: one bar, one piece a hop.

import { add } from "./user.js";

const bar = document.getElementById("bar");
const legend = document.getElementById("legend");
const total = document.getElementById("total");
const words = document.getElementById("pulse-words");
const means = {
  folded: "the stream folded the event into the history",
  requested: "waited for its turn at the encoder",
  encoded: "the model computed the interests",
  published: "interests written to Kafka",
  received: "read by the recommender",
  searched: "Milvus searched, the feed was merged",
  pushed: "sent out",
};
const colours = ["--hue-5", "--hue-7", "--hue-2", "--hue-4", "--hue-1", "--hue-0", "--hue-3"];

/** Shows the hops of a push that an event caused. */
export function showHops(push, title) {
  const ms = push.since_event_ms;
  total.textContent = ms < 10_000 ? Math.round(ms) : (ms / 1000).toFixed(1) + " k";
  words.textContent = `from “${title}” to this feed`;
  bar.replaceChildren();
  legend.replaceChildren();
  push.hops.forEach((hop, at) => {
    const colour = `var(${colours[at % colours.length]})`;
    const piece = add(bar, "i");
    piece.style.setProperty("--hop", colour);
    piece.style.flexGrow = Math.max(hop.ms, 0.01);
    piece.title = `${hop.name}: ${hop.ms.toFixed(1)} ms`;
    const line = add(legend, "li");
    line.style.setProperty("--hop", colour);
    line.title = means[hop.name] ?? "";
    line.append(hop.name, " ");
    add(line, "b", "", hop.ms < 10 ? hop.ms.toFixed(1) : Math.round(hop.ms).toString());
  });
  bar.setAttribute("aria-label", push.hops.map((hop) => `${hop.name} ${hop.ms.toFixed(1)} ms`).join(", "));
}

export function clearHops() {
  total.textContent = "–";
  words.textContent = "Click something below: its way through the system shows here.";
  bar.replaceChildren();
  legend.replaceChildren();
  bar.setAttribute("aria-label", "No event yet");
}
