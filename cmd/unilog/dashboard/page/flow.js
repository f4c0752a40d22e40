// The drawing: what waits where, what moves, and what has crashed.

import { Arrows } from './arrows.js';
import { count, duration, longDuration, make, rate, records, setData, setText, time } from './format.js';
import { words } from './words.js';

// FULL is the backlog at which a bar is full; it fills by the logarithm.
const FULL = 10_000;
const SILENT = 60; // s; an idle consumer says every 30 s that it is alive
const FLASH = 700; // ms

export class Flow {
  #root = document.getElementById('flow');
  #arrows = new Arrows(this.#root);
  #consumers = new Map();
  #failures = new Map(); // counted by name, as long as the page has known of them
  #flashes = new Map(); // timers by name
  #states = new Map(); // of processes that do not run, by node or zone

  /** render draws a view: see main.js. */
  render(view) {
    const { sample, rates, system, audit, stale } = view;
    setData(this.#root, 'stale', stale ? '' : null);
    this.#processes(system);
    if (!sample) return;
    const figure = (name, n) => setText(this.#find(`[data-station="${name}"]`), count(n));
    figure('api', words.audited ? audit?.count : sample.numbered + sample.staged);
    for (const name of ['staged', 'numbered', 'published']) figure(name, sample[name]);
    for (const [station, of] of [
      ['api', 'staged'],
      ['staged', 'staged'],
      ['numbered', 'numbered'],
      ['published', 'published'],
    ]) {
      setText(this.#find(`[data-rate="${station}"]`), rate(rates?.[of]));
      this.#arrows.setRate(station, station === 'api' ? 0 : rates?.[of]);
    }
    this.#backlog(sample);
    this.#streamer(sample, system);
    this.#log(sample);
    this.#renderConsumers(sample.consumers, rates);
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  #meter(element, n) {
    const fill = n > 0 ? Math.min(1, Math.log10(1 + n) / Math.log10(1 + FULL)) : 0;
    element.firstElementChild.style.transform = `scaleX(${fill.toFixed(2)})`;
    setData(element, 'level', fill > 0.6 ? 'high' : fill > 0.35 ? 'some' : null);
  }

  #backlog(s) {
    const waiting = Math.max(0, s.numbered - s.published);
    this.#meter(this.#find('[data-meter="staged"]'), s.staged);
    this.#meter(this.#find('[data-meter="numbered"]'), waiting);
    setText(
      this.#find('[data-what="staged"]'),
      s.staged > 0 && s.staged_for >= 1
        ? `the oldest has waited for ${longDuration(s.staged_for)}`
        : words.committed,
    );
    setText(
      this.#find('[data-what="numbered"]'),
      waiting > 20 ? `${records(waiting)} not published yet` : '1, 2, 3 … without a gap: this order is final',
    );
  }

  #log(s) {
    const lost = s.redis || s.lostLog === 0 ? 0 : s.lostLog;
    this.#meter(this.#find('[data-meter="published"]'), lost);
    setText(
      this.#find('[data-what="published"]'),
      s.redis
        ? 'what the log holds cannot be read now'
        : lost
          ? `${s.head ? records(lost) : 'all'} lost: being built again`
          : 'what consumers read; if lost, built again',
    );
    setText(this.#find('[data-zone="redis"] h3'), words.engine);
    this.#zone('redis', s.redis ? 'cannot be read' : lost ? 'lost its log' : null);
    this.#zone('postgres', s.postgres ? 'cannot be read' : null);
  }

  // #zone says what is wrong with a server: what was done to it, or what is seen.
  #zone(name, seen) {
    const zone = this.#find(`[data-zone="${name}"]`);
    const trouble = this.#states.get(name) ?? seen;
    setData(zone, 'trouble', trouble ? '' : null);
    setText(zone.querySelector('.badge'), trouble ?? '');
  }

  #streamer(s, system) {
    const streamers = system?.processes.filter((p) => p.kind === 'streamer' && p.state === 'running') ?? [];
    setText(
      this.#find('.leader'),
      s.leader
        ? `leads for ${longDuration(s.leader.seconds)}, term ${count(s.epoch)}${s.partitions > 1 ? `, ${count(s.partitions)} partitions` : ''}`
        : s.partitions > 1
          ? `${count(s.leaders)} of ${count(s.partitions)} partitions are led`
          : 'nobody leads just now',
    );
    setData(this.#find('.streamer'), 'leaderless', s.leader ? null : '');
    const others = streamers.length - (s.leader ? 1 : 0);
    setText(
      this.#find('.standby'),
      !system
        ? 'numbers the records, then publishes them'
        : others > 0
          ? `${others} more stand${others === 1 ? 's' : ''} by`
          : 'nobody stands by',
    );
  }

  #renderConsumers(list, rates) {
    const host = document.getElementById('consumers');
    const names = new Set(list.map((c) => c.name));
    let changed = false;
    for (const [name, element] of this.#consumers) {
      if (names.has(name)) continue;
      element.remove();
      this.#consumers.delete(name);
      changed = true;
    }
    for (const c of list) {
      let element = this.#consumers.get(c.name);
      if (!element) {
        element = document.getElementById('consumer-template').content.firstElementChild.cloneNode(true);
        element.dataset.node = c.name;
        element.querySelector('.figure span').dataset.station = c.name;
        setText(element.querySelector('h3'), c.name);
        host.append(element);
        this.#consumers.set(c.name, element);
        this.#showFailures(c.name);
        changed = true;
      }
      setText(element.querySelector('[data-role="checkpoint"]'), count(c.checkpoint));
      setText(element.querySelector('[data-role="rate"]'), rate(rates?.consumers[c.name]));
      this.#arrows.setRate(c.name, rates?.consumers[c.name]);
      this.#meter(element.querySelector('.meter'), c.lag);
      const silent = c.silent > SILENT ? `silent for ${longDuration(c.silent)}` : 'up to date';
      const behind = `${records(c.lag)} behind, ${c.pace || duration(c.lag_seconds)}`;
      setText(element.querySelector('.what'), `${c.elsewhere ? 'elsewhere: ' : ''}${c.lag > 0 ? behind : silent}`);
      const parked = c.dead_letters > 0 ? `${records(c.dead_letters)} parked` : '';
      const paused = c.paused ? `paused by ${c.paused}` : '';
      const halted = c.halted ? `${c.halted}: ${c.why}` : '';
      setText(element.querySelector('.parked'), [paused, halted, parked].filter(Boolean).join('; '));
    }
    if (changed) this.#arrows.layout();
  }

  // #processes shows on the drawing what is frozen or on its way back.
  #processes(system) {
    this.#states.clear();
    for (const p of system?.processes ?? []) {
      const streamer = p.kind === 'streamer';
      if (p.state !== 'running')
        this.#states.set(streamer ? p.kind : p.name, streamer ? `${p.name} ${p.state}` : p.state);
    }
    if (system?.redis_cut) this.#states.set('redis', 'cut off');
    for (const element of this.#root.querySelectorAll('[data-node]')) {
      const badge = element.querySelector('.badge');
      if (!badge) continue;
      const state = this.#states.get(element.dataset.node);
      setData(element, 'state', state ? 'down' : null);
      setText(badge, state ?? '');
    }
  }

  /** note counts a failure where it happened, and flashes there if it is new. */
  note(note, fresh) {
    if (!note.failed && note.kind !== 'halted') return;
    const name = /^streamer/.test(note.source) ? 'streamer' : note.source;
    this.#failures.set(name, [(this.#failures.get(name)?.[0] ?? 0) + 1, note.t]);
    this.#showFailures(name);
    const element = this.#find(`[data-node="${CSS.escape(name)}"], [data-zone="${CSS.escape(name)}"]`);
    if (!element || !fresh || document.hidden) return;
    element.dataset.flash = note.kind === 'simulated' || note.kind === 'refused' ? 'soft' : 'hard';
    clearTimeout(this.#flashes.get(name));
    this.#flashes.set(
      name,
      setTimeout(() => delete element.dataset.flash, FLASH),
    );
  }

  #showFailures(name) {
    const [failures, last] = this.#failures.get(name) ?? [0];
    const element = this.#find(`[data-node="${CSS.escape(name)}"] .trouble`);
    if (!element || !failures) return;
    element.replaceChildren(make('b', '', `${count(failures)} ×`), ` failed, last ${time(last)}`);
    setData(element, 'failures', failures);
  }
}
