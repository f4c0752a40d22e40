// What the samples of the last minutes say: rates for the drawing, columns for
// the plots. Both are bounded.

export const SPAN = 300_000;
const RATE_SPAN = 4000;
const GAP = 3500;

export class History {
  #recent = []; // readable samples of the last RATE_SPAN
  #seconds = []; // one sample a second of the last SPAN

  add(sample) {
    if (!sample.postgres) {
      this.#recent.push(sample);
      while (sample.t - this.#recent[0].t > RATE_SPAN) this.#recent.shift();
    }
    const last = this.#seconds.at(-1);
    if (last && Math.floor(last.t / 1000) >= Math.floor(sample.t / 1000))
      this.#seconds[this.#seconds.length - 1] = sample;
    else this.#seconds.push(sample);
    while (sample.t - this.#seconds[0].t > SPAN + 2 * GAP) this.#seconds.shift();
  }

  /** merge takes the dashboard's history, and keeps what is older than that. */
  merge(samples) {
    if (samples.length === 0) return;
    const first = samples[0].t;
    this.#recent = [];
    this.#seconds = this.#seconds.filter((s) => s.t < first);
    for (const s of samples) this.add(s);
  }

  /** rates are per second; null while they cannot be told. */
  rates(now) {
    const first = this.#recent[0];
    const last = this.#recent.at(-1);
    const seconds = first ? (last.t - first.t) / 1000 : 0;
    if (seconds < 0.7 || now - last.t > 2000) return null;
    const per = (value) => Math.max(0, (value(last) - value(first)) / seconds);
    const consumers = {};
    for (const c of last.consumers) {
      const before = first.consumers.find((b) => b.name === c.name);
      consumers[c.name] = before ? Math.max(0, (c.checkpoint - before.checkpoint) / seconds) : null;
    }
    return {
      staged: per((s) => s.numbered + s.staged),
      numbered: per((s) => s.numbered),
      published: per((s) => s.published),
      consumers,
    };
  }

  /** consumers are the names in the last sample. */
  consumers() {
    return this.#seconds.at(-1)?.consumers.map((c) => c.name) ?? [];
  }

  /**
   * columns are the plots' data: times in seconds, then arrays of values. Where
   * nothing is known there is a null, which is a gap in the line.
   */
  columns(names) {
    const c = {
      time: [],
      written: [],
      backlog: [],
      p50: [],
      p99: [],
      lag: names.map(() => []),
      wait: names.map(() => []),
    };
    const row = (t, sample, written) => {
      c.time.push(t / 1000);
      c.written.push(written);
      c.backlog.push(sample ? sample.staged + sample.numbered - sample.published : null);
      c.p50.push(sample?.latency?.p50 ?? null);
      c.p99.push(sample?.latency?.p99 ?? null);
      names.forEach((name, i) => {
        const consumer = sample?.consumers.find((k) => k.name === name);
        c.lag[i].push(consumer?.lag ?? null);
        c.wait[i].push(consumer ? consumer.lag_seconds * 1000 : null);
      });
    };
    let before = null;
    for (const s of this.#seconds) {
      const readable = s.postgres ? null : s;
      if (before && s.t - before.t > GAP) {
        row(before.t + 1, null, null);
        before = null;
      }
      const written =
        readable && before && !before.postgres
          ? Math.max(0, ((s.numbered + s.staged - before.numbered - before.staged) * 1000) / (s.t - before.t))
          : null;
      row(s.t, readable, written);
      before = s;
    }
    return c;
  }
}
