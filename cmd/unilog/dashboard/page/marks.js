// What has failed, second by second, for as long as the plots go back: also before this
// page was opened.

import { SPAN } from './history.js';

export class Marks {
  #seconds = new Map(); // {t, hard, soft, failed} by second; see figures.go

  add(mark) {
    this.#seconds.set(Math.floor(mark.t / 1000), mark);
  }

  /** since returns those from a time on, in Unix milliseconds, and forgets what no plot shows. */
  since(t, now) {
    for (const [second, mark] of this.#seconds) if (now - mark.t > SPAN) this.#seconds.delete(second);
    return [...this.#seconds.values()].filter((mark) => mark.t >= t);
  }
}
