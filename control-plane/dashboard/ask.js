// Asks the control plane, at the address that this page is from and no other.

/** How long an answer may take; the control plane asks its replicas for three seconds at most. */
const PATIENCE_MILLIS = 8000;

/** Where somebody tells, the control plane says every ten seconds that it goes on. */
const SILENCE_MILLIS = 35000;
/** Of one line that has not ended, in characters: more than any request is told with. */
const LINE_LIMIT = 1 << 20;

/** Why there is no answer; `gone`: nobody answers at all; `status`: how it was refused. */
export class Unanswered extends Error {
  constructor(message, gone, status = null) {
    super(message);
    this.gone = gone;
    this.status = status;
  }
}

/** The answer to a question, as JSON. */
export async function ask(name, words = {}) {
  return saidOf(await begin(name, words, AbortSignal.timeout(PATIENCE_MILLIS)));
}

/** What is told while it happens: the objects of its lines, as many as came at once, until it ends or `signal` ends it. */
export async function* listen(name, words, signal) {
  const response = await begin(name, words, signal);
  if (!response.ok) await saidOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), SILENCE_MILLIS).catch((error) => {
        throw error instanceof Unanswered ? error : new Unanswered("the control plane does not tell any more", true);
      });
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      if (rest.length > LINE_LIMIT) throw new Unanswered("it tells something without an end", true);
      yield lines.filter((line) => line !== "").map((line) => JSON.parse(line));
    }
  } finally {
    // What is over already cannot be cancelled, and need not be.
    reader.cancel().catch(() => {});
  }
}

/** Fails when nothing is told for so long. */
async function within(read, millis) {
  let timer;
  const silence = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Unanswered(`nothing came for ${millis / 1000} s`, true)), millis);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}

async function begin(name, words, signal) {
  const query = new URLSearchParams(Object.entries(words).filter(([, value]) => value !== ""));
  const text = query.toString();
  try {
    return await fetch(`/api/v1/${name}${text ? `?${text}` : ""}`, { signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    const slow = error.name === "TimeoutError";
    throw new Unanswered(slow ? "it takes too long to answer" : "nobody answers at this address", true);
  }
}

async function saidOf(response) {
  let said;
  try {
    said = await response.json();
  } catch {
    throw new Unanswered(`the answer with status ${response.status} is no JSON`, true);
  }
  if (!response.ok) throw new Unanswered(said.error ?? `status ${response.status}`, response.status >= 500, response.status);
  return said;
}
