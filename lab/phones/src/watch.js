// Waiting without polling: whoever changes something says so, whoever waits looks again.

const waiting = new Set();

/** Tell every waiter that something may have changed. */
export function changed() {
  for (const look of [...waiting]) look();
}

/** Resolve true as soon as `claim()` holds, false when it never did within `milliseconds`. */
export function until(claim, milliseconds) {
  return new Promise((resolve) => {
    const end = (result) => {
      waiting.delete(look);
      clearTimeout(timer);
      resolve(result);
    };
    const look = () => claim() && end(true);
    const timer = setTimeout(() => end(Boolean(claim())), milliseconds);
    waiting.add(look);
    look();
  });
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
