// One sentence that says how things are now: the worst first.

import { count, duration, longDuration, rate, records, setData, setText, time, title } from './format.js';
import { capital, words } from './words.js';

const BEHIND = 2; // s after which a consumer is worth a sentence
const MINUTE = 60_000;

export class Now {
  #root = document.getElementById('now');

  render(view) {
    const [level, text] = this.#sentence(view);
    // Figures change all the time; to a screen reader, only news is read out.
    if (this.#root.dataset.level !== level) setText(document.getElementById('announcement'), text);
    setData(this.#root, 'level', level);
    setText(this.#root.querySelector('p'), text);
  }

  #sentence(view) {
    const { connection, lostAt, sample, audit, rates, system, marks, now } = view;
    if (connection === 'connecting') return ['wait', 'Connecting to the dashboard …'];
    if (connection === 'lost' && !sample) return ['unknown', 'The dashboard does not answer. This page keeps trying.'];
    if (connection === 'lost') {
      return [
        'unknown',
        `This page has lost the dashboard at ${time(lostAt)} and keeps trying. What you see is of then; the system itself may be well.`,
      ];
    }
    if (audit && !audit.agrees && audit.balances.length && !audit.error)
      return ['wrong', 'The totals do not agree. That must never happen: see the audit.'];
    if (!sample) return ['wait', 'Waiting for the first reading …'];
    const troubles = [
      ...this.#servers(sample, system),
      ...this.#processes(system, sample),
      ...(sample.postgres ? [] : this.#delays(sample, system)),
    ];
    if (troubles.length) return ['trouble', troubles.slice(0, 3).join(' ')];
    if (sample.numbered + sample.staged === 0)
      return ['wait', `All is ready. Nothing has been ${words.did} yet; the first ${words.one} will show here.`];
    return ['well', this.#allWell(sample, rates, marks.since(now - MINUTE, now))];
  }

  #allWell(sample, rates, marks) {
    const n = marks.reduce((sum, mark) => sum + mark.failed, 0);
    const failed = n
      ? ` ${count(n)} ${n === 1 ? 'failure' : 'failures'} in the last minute, each made good.`
      : ' Nothing has failed in the last minute.';
    if (!rates || rates.staged === 0) return `All is well, and nobody ${words.does} just now.${failed}`;
    const within = sample.latency
      ? `, half of them at their consumers within ${duration(sample.latency.p50 / 1000)}`
      : '';
    return `All is well: ${rate(rates.staged)} ${words.many}/s${within}.${failed}`;
  }

  #servers(s, system) {
    const list = [];
    const done = (kind) =>
      ({ frozen: `${title(kind)} is frozen`, restarting: `${title(kind)} has died and starts again` })[
        system?.processes.find((p) => p.kind === kind)?.state
      ];
    const postgres = done('postgres') ?? s.postgres;
    const redis = system?.redis_cut ? `${words.engine} is cut off` : (done('redis') ?? s.redis);
    const as = s.postgres ? ` Figures as of ${time(s.read)}.` : '';
    if (postgres) list.push(`${postgres}. Nothing is lost, and nothing can be ${words.did} until it is back.${as}`);
    if (redis) list.push(`${redis}. ${capital(words.many)} are ${words.did} all the same; ${words.waiting} wait in Postgres.`);
    else if (s.lostLog > 0 && !s.postgres)
      list.push(
        `${words.engine} has lost ${s.head ? records(s.lostLog) : 'the log'}; the streamer publishes again from Postgres what readers still need.`,
      );
    return list;
  }

  #processes(system, s) {
    return (system?.processes ?? [])
      .filter((p) => p.state !== 'running' && p.kind !== 'postgres' && p.kind !== 'redis')
      .map((p) => {
        const lag = p.kind === 'consumer' && !s.postgres ? s.consumers.find((c) => c.name === p.name)?.lag : 0;
        return `${title(p.name)} ${p.state === 'frozen' ? 'is frozen' : 'has died and starts again'}${lag ? `; ${records(lag)} wait for it` : ''}.`;
      });
  }

  #delays(s, system) {
    const list = [];
    const stopped = new Set(system?.processes.filter((p) => p.state !== 'running').map((p) => p.name));
    const waiting = s.staged + Math.max(0, s.numbered - s.published);
    if (!s.leader && s.partitions > 1)
      list.push(`${s.partitions - s.leaders} of ${s.partitions} partitions have no leader just now: ${records(waiting)} wait.`);
    else if (!s.leader)
      list.push(waiting ? `No streamer leads just now: ${records(waiting)} wait.` : 'No streamer leads just now.');
    else if (s.staged_for > BEHIND)
      list.push(`${records(s.staged)} wait to be numbered, the oldest for ${longDuration(s.staged_for)}.`);
    for (const c of s.consumers) {
      if (stopped.has(c.name)) continue; // which was said
      const wait = c.lag > 0 ? `; ${records(c.lag)} wait for it.` : '.';
      if (c.paused) list.push(`${title(c.name)} is paused by ${c.paused}${wait}`);
      else if (c.halted) list.push(`${title(c.name)} ${c.halted}${wait}`);
      else if (c.lag > 0 && c.lag_seconds > BEHIND)
        list.push(`${title(c.name)} is ${records(c.lag)} behind, ${longDuration(c.lag_seconds)}.`);
    }
    return list;
  }
}
