// The steps of the tour: what each asks for, how it knows that the reader did that, and
// what came of it.

import { count, duration, longDuration, records } from './format.js';
import { capital, words } from './words.js';

const find = (selector) => document.querySelector(selector);
const button = (action, target) => find(`#controls button[data-action="${action}"][data-target="${CSS.escape(target)}"]`);
const processes = (view, kind) =>
  (view.system?.processes ?? []).filter((p) => p.kind === kind).sort((a, b) => a.name.localeCompare(b.name));
const staged = (s) => s.numbered + s.staged;
const known = (s) => s && !s.postgres && !s.redis;

// has says whether a record that was one of the first so many has come to a station.
const has = (s, upTo) => (at) => known(s) && at(s) >= upTo;
const KEPT = '0 lost, 0 doubled: the audit agrees.';
const REBUILT = 3000; // ms to wait for the sentence that says what was published again

// Healing is what comes after a fault: all that was staged until then arrives, and an
// audit after that agrees. Times are Unix milliseconds.
class Healing {
  upTo = 0;
  waited = 0; // records, at the most
  healed = 0;

  constructor(began) {
    this.began = began;
  }

  /** wait takes a sample in which it is not healed. */
  wait(s) {
    if (s.t > this.began && known(s)) this.waited = Math.max(this.waited, staged(s) - s.published);
  }

  sample(s) {
    if (s.t <= this.began || this.healed || !known(s)) return;
    this.wait(s);
    this.upTo ||= staged(s);
    const there = has(s, this.upTo);
    if (s.leader && !s.short && there((of) => of.published) && s.consumers.every((c) => c.elsewhere || there(() => c.checkpoint)))
      this.healed = s.t;
  }

  get seconds() {
    return (this.healed - this.began) / 1000;
  }

  /** kept says that an audit of after the healing agrees. */
  kept({ audit }) {
    return Boolean(this.healed && audit && !audit.error && audit.t > this.healed && audit.agrees && audit.balances.length);
  }

  get live() {
    return this.healed ? 'All has arrived. Waiting for the next audit …' : `${records(this.waited)} waited so far …`;
  }
}

const write = {
  title: `${capital(words.do)} a ${words.one}`,
  say: () =>
    `Press “${capital(words.do)} a ${words.one}”. The ${words.writer} saves the ${words.one}, and the record that tells of it, in one transaction.`,
  target: (view) => processes(view, 'api').map((p) => button('write', p.name))[0],
  note(note, tour) {
    if (note.kind === 'written') tour.written = { t: note.t, text: note.text };
  },
  see: (view, tour) => ({ result: tour.written ? `${capital(tour.written.text)}.` : '', goOn: true }),
};

const watch = {
  title: 'Watch it travel',
  say: () => `It is staged in Postgres, gets its number, is published to the log, and each consumer applies it. Each turns green when it has it.`,
  target: () => find('#flow'),
  begin(tour) {
    tour.passed = 0;
    tour.arrival = new Healing(tour.written?.t ?? tour.now);
  },
  sample: (sample, tour) => tour.arrival.sample(sample),
  see({ sample }, tour) {
    const { upTo, healed, seconds } = tour.arrival;
    const there = has(sample, upTo);
    const stations = [
      ['api', upTo > 0],
      ['staged', upTo > 0],
      ['numbered', there((s) => s.numbered)],
      ['published', there((s) => s.published)],
      ...(sample?.consumers ?? []).filter((c) => !c.elsewhere).map((c) => [c.name, there(() => c.checkpoint)]),
    ];
    // One after the other: all of it takes some milliseconds, which nobody could follow.
    if (tour.passed < stations.length && stations[tour.passed][1]) tour.passed++;
    stations.slice(0, tour.passed).forEach(([name]) => {
      const station = find(`#flow [data-node="${CSS.escape(name)}"]`);
      if (station) station.dataset.passed = '';
    });
    const live = stations.map(([name], i) => `${name}${i < tour.passed ? ' ✓' : ''}`).join(' → ');
    const over = healed && tour.passed === stations.length;
    return {
      live,
      result: over ? `It is among the first ${records(upTo)}, and every consumer had applied it within ${duration(seconds)}.` : '',
    };
  },
  end() {
    for (const station of document.querySelectorAll('[data-passed]')) delete station.dataset.passed;
  },
};

// killing is a step that kills what is called by a name.
const killing = (title, say, of) => ({
  title,
  say,
  target: (view) => processes(view, of).map((p) => button('kill', p.name))[0],
  begin(tour) {
    tour.killed = null;
  },
  note(note, tour) {
    const ours = processes(tour, of).some((p) => p.name === note.source);
    if (!tour.killed && ours && ['killed', 'crash'].includes(note.kind)) tour.killed = new Healing(note.t);
  },
  sample(sample, tour) {
    if (processes(tour, of).every((p) => p.state === 'running')) tour.killed?.sample(sample);
    else tour.killed?.wait(sample);
  },
  see(view, { killed }) {
    if (!killed) return {};
    return {
      live: killed.live,
      result: killed.kept(view)
        ? `Healed within ${duration(killed.seconds)}. ${records(killed.waited)} waited at the most, ${KEPT}`
        : '',
    };
  },
});

const emptying = {
  title: `Empty ${words.engine}`,
  say: () => `Press “Empty”: ${words.engine} loses all that it holds, and the streamer publishes it again from Postgres.`,
  target: (view) => processes(view, 'redis').map((p) => button('empty-redis', p.name))[0],
  begin(tour) {
    tour.emptied = tour.rebuilt = null;
  },
  note(note, tour) {
    if (note.source !== 'redis') return;
    if (note.kind === 'lost') tour.emptied ??= new Healing(note.t);
    if (note.kind === 'rebuilt') tour.rebuilt = note.text;
  },
  sample: (sample, tour) => tour.emptied?.sample(sample),
  see(view, { emptied, rebuilt }) {
    if (!emptied) return {};
    const told = rebuilt ?? (view.now - emptied.healed > REBUILT ? `Healed within ${duration(emptied.seconds)}.` : '');
    return { live: emptied.live, result: told && emptied.kept(view) ? `${told} ${capital(KEPT)}` : '' };
  },
};

const killPostgres = killing(
  'Kill Postgres',
  () => `Press “kill -9” beside postgres. Nothing can be ${words.did} until it is back. Look at the totals: what was committed is still there.`,
  'postgres',
);
const killWriter = killing(
  `Kill the ${words.writer}`,
  () => `Press “kill -9” beside ${words.writer}. Look at the audit: each of the ${words.many} that it had saved has its record, and goes on to the consumers.`,
  'api',
);
const killStreamer = killing(
  'Kill the streamer',
  () => 'Press “kill -9” beside streamer: it dies in the middle of its work. Records wait as staged until it is back.',
  'streamer',
);

const freeze = {
  title: 'Freeze a consumer',
  say: (view, { frozen }) =>
    frozen && !frozen.thawed
      ? `${capital(frozen.name)} falls behind, and the others go on. Now press “Thaw”, which is the same button, and look how it catches up.`
      : 'Press “Freeze” beside a consumer. Look how it falls behind while the others go on.',
  target(view, { frozen }) {
    const name = frozen?.name ?? processes(view, 'consumer')[0]?.name;
    return name && (button('thaw', name) ?? button('freeze', name));
  },
  begin(tour) {
    tour.frozen = null;
  },
  see(view, tour) {
    const now = processes(view, 'consumer').find((p) => (tour.frozen ? p.name === tour.frozen.name : p.state === 'frozen'));
    if (!now) tour.frozen = null; // removed
    if (now && !tour.frozen) tour.frozen = { name: now.name, since: now.since, most: 0 };
    const { frozen } = tour;
    if (!frozen) return {};
    const lag = view.sample?.consumers.find((c) => c.name === frozen.name)?.lag ?? 0;
    frozen.most = Math.max(frozen.most, lag);
    if (!frozen.thawed && now?.state === 'running') {
      frozen.thawed = new Healing(now.since);
      frozen.seconds = (now.since - frozen.since) / 1000;
    }
    const { thawed } = frozen;
    if (!thawed) return { live: `${frozen.name} is ${records(lag)} behind.` };
    return {
      live: thawed.healed ? thawed.live : `${frozen.name} is ${records(lag)} behind.`,
      result: thawed.kept(view)
        ? `${capital(frozen.name)} was frozen for ${longDuration(frozen.seconds)} and ${records(frozen.most)} behind, and caught up within ${duration(thawed.seconds)}. ${capital(KEPT)}`
        : '',
    };
  },
  sample: (sample, { frozen }) => frozen?.thawed?.sample(sample),
};

const audit = {
  title: 'Look at the audit',
  say: () => `First comes the true total of all ${words.many}, then what each consumer has added up and what is on its way to it. Together these must be the true total to the last digit, after all that you did.`,
  target: () => find('#audit .equation'),
  begin(tour) {
    tour.looks = tour.now;
  },
  see(view, tour) {
    const a = view.audit;
    if (!a || a.error || a.t <= tour.looks || !a.agrees || a.balances.length === 0) return { live: 'Waiting for the next audit …' };
    const since = a.since <= tour.began ? ', all through the tour' : '';
    const failed = view.marks.since(tour.began, view.now).reduce((sum, mark) => sum + mark.failed, 0);
    return {
      result: `All ${a.balances.length + 1} totals agree${since}${a.count == null ? '' : `, over ${count(a.count)} ${words.many}`}. ${count(failed)} ${failed === 1 ? 'failure' : 'failures'} in that time, each made good: 0 lost, 0 doubled.`,
    };
  },
};

/** steps are those of a system: what is emptied or killed third depends on what it runs. */
export function steps(view) {
  const runs = (kind) => processes(view, kind).length > 0;
  const third = runs('redis') ? emptying : runs('postgres') ? killPostgres : killWriter;
  return [write, watch, third, killStreamer, freeze, audit];
}
