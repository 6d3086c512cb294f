// The open feed of one user: server-sent events, opened again after sleep, loss and long absence.
//
// The server says something every 15 seconds. A connection that was cut while the laptop slept looks
// open and stays silent, so silence is a loss. A tab that nobody looks at gives its connection back:
// a browser has six for one server, and each open feed holds one.

const SILENCE_MS = 40_000;
const TICK_MS = 5_000;
const HIDDEN_MS = 60_000;
const AGAIN_MS = 3_000;

/** Opens the feed; returns { close }. The handlers: onFeed(push), onBeat(), onProblem(reason),
 *  onRefused(reason), onLost(), onPaused(). */
export function openFeed(user, handlers) {
  let source = null;
  let heardMs = 0;
  let hiddenMs = 0;
  let isOver = false;

  function open() {
    source?.close();
    heardMs = Date.now();
    source = new EventSource(`api/feed?user=${encodeURIComponent(user)}`);
    on("feed", handlers.onFeed);
    on("beat", handlers.onBeat);
    on("problem", ({ reason }) => handlers.onProblem(reason));
    on("refused", ({ reason }) => {
      close();
      handlers.onRefused(reason);
    });
    source.addEventListener("error", () => {
      handlers.onLost();
      // The browser itself opens a broken connection again, but not one that was answered with an error.
      if (source?.readyState === EventSource.CLOSED) heardMs = Date.now() - SILENCE_MS + AGAIN_MS;
    });
  }

  function on(name, handle) {
    source.addEventListener(name, (event) => {
      heardMs = Date.now();
      handle(JSON.parse(event.data));
    });
  }

  function look() {
    if (isOver) return;
    if (!document.hidden) hiddenMs = 0;
    else hiddenMs ||= Date.now();
    if (source && hiddenMs && Date.now() - hiddenMs >= HIDDEN_MS) {
      source.close();
      source = null;
      handlers.onPaused();
    } else if (!document.hidden && (!source || Date.now() - heardMs >= SILENCE_MS)) {
      if (source) handlers.onLost();
      open();
    }
  }

  function close() {
    isOver = true;
    source?.close();
    source = null;
    clearInterval(ticks);
    document.removeEventListener("visibilitychange", look);
    removeEventListener("online", look);
  }

  const ticks = setInterval(look, TICK_MS);
  document.addEventListener("visibilitychange", look);
  addEventListener("online", look);
  open();
  return { close };
}
