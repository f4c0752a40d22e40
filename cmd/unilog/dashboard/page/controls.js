// The buttons that break things. They are there only if hello says so.

import { count, make, rate, setData, setText } from './format.js';
import { capital, words } from './words.js';

const PENDING = 6000; // ms to wait for the note that shows the effect
const LABELS = {
  write: `${capital(words.do)} a ${words.one}`,
  kill: 'kill -9', freeze: 'Freeze', thaw: 'Thaw', 'empty-redis': 'Empty', 'cut-redis': 'Cut off', 'mend-redis': 'Mend',
};
const ORDER = ['api', 'streamer', 'consumer', 'simulator', 'dashboard', 'postgres', 'redis'];

/** toRate and fromRate map the slider, 0…100, to 1…2000 a second. */
const toRate = (position) => {
  const r = 2000 ** (position / 100);
  return r < 20 ? Math.round(r) : Number(r.toPrecision(2));
};
const fromRate = (value) => (100 * Math.log(Math.max(1, value))) / Math.log(2000);

/** turn lets a button, if there is one, do another thing. */
const turn = (button, action, target) => {
  if (!button) return;
  setData(button, 'action', action);
  setText(button, LABELS[action]);
  button.setAttribute('aria-label', `${LABELS[action]} ${target}`);
};

export class Controls {
  #root = document.getElementById('controls');
  #token = '';
  #rows = new Map(); // by process name: {element, state, said, freeze, cut}
  #sliders = {};
  #remove;

  constructor() {
    const row = document.getElementById('consumer-buttons');
    const said = make('p', 'said');
    said.setAttribute('role', 'status');
    this.#remove = this.#button('remove-consumer', '', 'Remove one');
    row.append(this.#button('add-consumer', '', 'Add a consumer'), this.#remove, said);
    this.#rows.set('consumers', { said });
    this.#slider('rate', 'Load', { min: 0, max: 100, step: 1 }, toRate, fromRate, (v) => `${rate(v)} ${words.many}/s`);
    this.#slider(
      'failures',
      'Failure rate',
      { min: 0, max: 50, step: 1 },
      (p) => p / 100,
      (v) => v * 100,
      (v) => `${Math.round(v * 100)} % of batches`,
    );
  }

  hello({ control, token }) {
    this.#root.hidden = !control;
    this.#token = token ?? '';
  }

  render({ system }) {
    if (!system || this.#root.hidden) return;
    const host = document.getElementById('processes');
    const names = new Set(system.processes.map((p) => p.name));
    for (const [name, row] of this.#rows) {
      if (names.has(name) || !row.element) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    const sorted = [...system.processes].sort(
      (a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || a.name.localeCompare(b.name),
    );
    sorted.forEach((p, i) => {
      const row = this.#rows.get(p.name) ?? this.#row(p);
      if (host.children[i] !== row.element) host.insertBefore(row.element, host.children[i] ?? null);
      const cut = p.kind === 'redis' && system.redis_cut;
      setData(row.element, 'state', cut ? 'cut' : p.state);
      setText(
        row.state,
        `${cut ? 'cut off' : p.state}${p.restarts ? `, ${count(p.restarts)} ${p.restarts === 1 ? 'restart' : 'restarts'}` : ''}`,
      );
      turn(row.freeze, p.state === 'frozen' ? 'thaw' : 'freeze', p.name);
      turn(row.cut, cut ? 'mend-redis' : 'cut-redis', p.name);
    });
    const last = sorted.filter((p) => p.kind === 'consumer').at(-1)?.name ?? '';
    this.#remove.dataset.target = last;
    this.#remove.disabled = !last;
    setText(this.#remove, `Remove ${last || 'one'}`);
    this.#sliders.rate.show(system.rate);
    this.#sliders.failures.show(system.failures);
  }

  /** note ends the wait for what a button was to bring about. */
  note({ source, text }) {
    for (const row of this.#rows.values()) {
      if (row.pending !== source) continue;
      row.pending = null;
      this.#say(row, text, 'done');
    }
  }

  #row(p) {
    const element = make('div', 'process');
    element.dataset.process = p.name;
    const said = make('p', 'said');
    said.setAttribute('role', 'status');
    const name = make('p', 'name');
    const state = make('span', 'state quiet');
    name.append(make('i', 'lamp'), make('b', '', p.name), ' ', state);
    const buttons = make('div', 'buttons');
    if (p.kind === 'api') {
      const write = this.#button('write', p.name, LABELS.write);
      write.setAttribute('aria-label', LABELS.write);
      buttons.append(write);
    }
    buttons.append(this.#button('kill', p.name, LABELS.kill));
    // A frozen dashboard could not be thawed from here; Postgres is many processes.
    let freeze = null;
    if (p.kind !== 'dashboard' && p.kind !== 'postgres') {
      freeze = this.#button('freeze', p.name, LABELS.freeze);
      buttons.append(freeze);
    }
    let cut = null;
    if (p.kind === 'redis') {
      cut = this.#button('cut-redis', p.name, LABELS['cut-redis']);
      buttons.append(this.#button('empty-redis', p.name, LABELS['empty-redis']), cut);
    }
    element.append(name, buttons, said);
    const row = { element, state, said, freeze, cut };
    this.#rows.set(p.name, row);
    return row;
  }

  #button(action, target, label) {
    const button = make('button', 'small', label);
    button.type = 'button';
    button.dataset.action = action;
    if (target) {
      button.dataset.target = target;
      button.setAttribute('aria-label', `${label} ${target}`);
    }
    button.addEventListener('click', async () => {
      if (button.getAttribute('aria-busy') === 'true') return;
      const to = button.dataset.target;
      const row = this.#rows.get(target || 'consumers');
      button.setAttribute('aria-busy', 'true');
      this.#say(row, 'on its way …', 'pending');
      row.pending = to || null;
      const error = await this.#send(button.dataset.action, to);
      button.removeAttribute('aria-busy');
      if (error) {
        row.pending = null;
        this.#say(row, error, 'error');
      } else if (row.said.dataset.kind === 'pending') {
        this.#say(row, 'done; its effect will show', 'done');
        setTimeout(() => {
          row.pending = null;
        }, PENDING);
      }
    });
    return button;
  }

  #say(row, text, kind) {
    setText(row.said, text);
    setData(row.said, 'kind', kind);
    clearTimeout(row.timer);
    if (kind !== 'pending') row.timer = setTimeout(() => setText(row.said, ''), kind === 'error' ? 15_000 : PENDING);
  }

  // #send returns why it did not work, or nothing.
  async #send(action, target, value) {
    try {
      const response = await fetch('actions', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-Dashboard-Token': this.#token },
        body: JSON.stringify({ action, target: target || undefined, value }),
      });
      if (response.ok) return '';
      const body = await response.json().catch(() => ({}));
      return body.error ?? `the dashboard answered ${response.status}`;
    } catch {
      return 'the dashboard cannot be reached; try again when this page is connected';
    }
  }

  #slider(action, label, bounds, toValue, toPosition, text) {
    const id = `slider-${action}`;
    const box = make('div', 'slider');
    const title = make('label', '', label);
    title.htmlFor = id;
    const output = make('output', '', '–');
    output.htmlFor = id;
    const input = Object.assign(make('input'), { type: 'range', id, ...bounds });
    input.dataset.action = action;
    const row = { said: make('p', 'said') };
    row.said.setAttribute('role', 'status');
    let touched = 0; // the hand has the slider until the system says the same
    const write = (value) => {
      setText(output, text(value));
      input.setAttribute('aria-valuetext', text(value));
    };
    input.addEventListener('input', () => {
      touched = Date.now();
      write(toValue(Number(input.value)));
    });
    let sent = Promise.resolve(); // one after the other, lest an earlier value arrive last
    input.addEventListener('change', async () => {
      this.#say(row, 'on its way …', 'pending');
      sent = sent.then(() => this.#send(action, undefined, toValue(Number(input.value))));
      const error = await sent;
      this.#say(row, error, error ? 'error' : 'done');
      if (error) touched = 0;
    });
    this.#sliders[action] = {
      show: (value) => {
        if (value == null || Date.now() - touched < 2000) return;
        const position = String(Math.round(toPosition(value)));
        if (input.value !== position) input.value = position;
        write(value);
      },
    };
    box.append(title, output, input, row.said);
    document.getElementById('sliders').append(box);
  }
}
