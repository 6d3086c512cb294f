// What the page asks of its server. Refusals become errors whose message is a sentence.

const DEADLINE_MS = 8000;

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(DEADLINE_MS), ...options });
  } catch {
    throw new Error("the page's own server does not answer; is it still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(body.error || `the server answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return body;
}

export function findUsers(prefix) {
  return ask(`api/users?prefix=${encodeURIComponent(prefix)}`);
}

/** The user's history and interests, or null for one nobody knows. */
export async function getUser(user) {
  try {
    return await ask(`api/user?user=${encodeURIComponent(user)}`);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

export function publish(event) {
  return ask("api/events", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(event),
  });
}
