// Asks the control plane, at the address that this page is from and no other.

/** How long an answer may take; the control plane asks its replicas for three seconds at most. */
const PATIENCE_MILLIS = 8000;

/** Why there is no answer; `gone`: nobody answers at all. */
export class Unanswered extends Error {
  constructor(message, gone) {
    super(message);
    this.gone = gone;
  }
}

/** The answer to a question, as JSON. */
export async function ask(name, words = {}) {
  const query = new URLSearchParams(Object.entries(words).filter(([, value]) => value !== ""));
  const text = query.toString();
  let response;
  try {
    response = await fetch(`/api/v1/${name}${text ? `?${text}` : ""}`, {
      signal: AbortSignal.timeout(PATIENCE_MILLIS),
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    const slow = error.name === "TimeoutError";
    throw new Unanswered(slow ? "it takes too long to answer" : "nobody answers at this address", true);
  }
  let said;
  try {
    said = await response.json();
  } catch {
    throw new Unanswered(`the answer with status ${response.status} is no JSON`, true);
  }
  if (!response.ok) throw new Unanswered(said.error ?? `status ${response.status}`, response.status >= 500);
  return said;
}
