// The feed. What happens again and again is one entry with a counter, so that
// neither an eye nor a screen reader is flooded.

import { count, make, setText, time } from './format.js';

const MOST = 60;
const TOGETHER = 10_000; // ms in which the same thing is one entry
const LOOK_BACK = 8; // entries

const SIGNS = {
  simulated: '×',
  refused: '⊘',
  crash: '×',
  killed: '×',
  frozen: '∗',
  lost: '!',
  rebuilt: '↻',
  leader: '▲',
  restart: '↻',
  written: '+',
  halted: '!',
  recovered: '✓',
  info: '·',
};

export class Notes {
  #list = document.getElementById('notes');
  #entries = []; // newest first: {element, note, last, times}

  add(note) {
    const same = this.#entries
      .slice(0, LOOK_BACK)
      .find((e) => e.note.kind === note.kind && e.note.source === note.source && note.t - e.note.t < TOGETHER);
    if (same) {
      same.times++;
      setText(same.times_, `${count(same.times)} times until ${time(note.t)}`);
      setText(same.text, note.text);
      return;
    }
    const element = make('li');
    element.dataset.kind = note.kind;
    element.dataset.source = note.source;
    const sign = make('span', 'sign', SIGNS[note.kind] ?? SIGNS.info);
    sign.setAttribute('aria-hidden', 'true');
    const when = make('time', '', time(note.t));
    when.dateTime = new Date(note.t).toISOString();
    const text = make('p', '', note.text);
    const times_ = make('span', 'times');
    const head = make('p', 'head');
    head.append(when, ' ', make('b', '', note.source), ' ', times_);
    element.append(sign, head, text);
    this.#list.prepend(element);
    this.#entries.unshift({ element, note, text, times_, times: 1 });
    while (this.#entries.length > MOST) this.#entries.pop().element.remove();
    document.getElementById('notes-empty').hidden = true;
  }
}
