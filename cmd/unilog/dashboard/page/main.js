// Takes the events, and draws what they say three times a second.

import { FRAME, untilNext } from './arrows.js';
import { AuditView } from './audit.js';
import { Controls } from './controls.js';
import { connect } from './events.js';
import { Flow } from './flow.js';
import { setData, setText, time } from './format.js';
import { History } from './history.js';
import { Marks } from './marks.js';
import { Notes } from './notes.js';
import { Now } from './now.js';
import { Plots } from './plots.js';
import { Tour } from './tour.js';
import { words } from './words.js';

const TEXT = 2 * FRAME; // ms between two updates of the figures
const PLOTS = 1000;

const history = new History();
const marks = new Marks();
// The tour comes last, as it speaks of what the others show.
const views = { now: new Now(), flow: new Flow(), audit: new AuditView(), controls: new Controls(), tour: new Tour() };
const plots = new Plots();
const notes = new Notes();

const state = { connection: 'connecting', lostAt: 0, skew: 0, sample: null, audit: null, system: null, lastNote: 0 };

// now is the dashboard's clock, which the events go by.
const now = () => Date.now() + state.skew;

const arrived = []; // notes, which are drawn with the rest: each by itself would cost a frame

let scheduled = false;
let plotted = 0;
function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  setTimeout(() => requestAnimationFrame(draw), untilNext(TEXT));
}

function draw() {
  scheduled = false;
  for (const note of arrived.splice(0)) takeNote(note, true);
  const { connection, sample } = state;
  const view = {
    ...state,
    now: now(),
    marks,
    rates: connection === 'open' && !sample?.postgres ? history.rates(now()) : null,
    stale: connection !== 'open' || Boolean(sample?.postgres),
  };
  for (const v of Object.values(views)) v.render(view);
  const as = view.stale && sample ? `, figures as of ${time(sample.read)}` : '';
  const element = document.getElementById('connection');
  setText(element, { connecting: 'connecting …', open: 'live', lost: 'connection lost' }[connection] + as);
  setData(element, 'state', connection);
  setData(document.body, 'connection', connection);
  setData(document.body, 'stale', view.stale ? '' : null);
  if (performance.now() - plotted > PLOTS - FRAME) {
    plotted = performance.now();
    plots.render(history, marks, now());
  }
}

function take(sample) {
  const before = state.sample;
  words.engine = sample.engine;
  // The log's head and Postgres are not read at the same instant.
  const short = sample.redis ? 0 : Math.max(0, sample.published - (sample.head ?? 0));
  sample.short = short;
  sample.lostLog = before?.short ? Math.min(short, before.short) : 0;
  sample.read = sample.postgres ? (before?.read ?? sample.t) : sample.t;
  state.sample = sample;
  history.add(sample);
}

function takeNote(note, fresh) {
  if (note.id <= state.lastNote) return;
  state.lastNote = note.id;
  notes.add(note);
  if (note.mark) marks.add(note.mark);
  views.flow.note(note, fresh);
  if (fresh) views.controls.note(note);
}

connect({
  connection(next) {
    state.connection = next;
    if (next === 'lost') state.lostAt = now();
    schedule();
  },
  hello(hello) {
    state.skew = hello.now - Date.now();
    state.audit = hello.audit ?? state.audit;
    state.system = hello.system;
    setText(document.getElementById('version'), hello.version);
    history.merge(hello.history);
    if (hello.history.length) take(hello.history.at(-1));
    // The ids of a dashboard that has started again begin anew.
    if ((hello.notes.at(-1)?.id ?? 0) < state.lastNote) state.lastNote = 0;
    arrived.length = 0; // they are among the hello's, or of before
    for (const note of hello.notes) takeNote(note, false);
    for (const mark of hello.marks) marks.add(mark);
    views.controls.hello(hello);
    views.tour.hello(hello);
    plots.render(history, marks, now());
    schedule();
  },
  sample(sample) {
    take(sample);
    views.tour.sample(sample, state.system);
    schedule();
  },
  audit(audit) {
    state.audit = audit;
    schedule();
  },
  note(note) {
    arrived.push(note);
    views.tour.note(note); // at once: it looks at what comes after
    schedule();
  },
  system(system) {
    state.system = system;
    schedule();
  },
});

setInterval(schedule, PLOTS); // also while nothing comes: time goes on
