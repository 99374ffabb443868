// Waiting without polling: code that changes state calls the waiters, which test their condition.

const waiting = new Set();

/** Notify all waiters that the state may have changed. */
export function changed() {
  for (const look of [...waiting]) look();
}

/** Resolve true as soon as `claim()` is true, or false after `milliseconds`. */
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
