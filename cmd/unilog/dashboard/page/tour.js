// The tour: six steps that the reader does. Its card stands beside the control that a step
// is about, in the page's own order, so that it covers nothing and Tab finds both.

import { setText } from './format.js';
import { steps } from './tour_steps.js';
import { capital, words } from './words.js';

const PAUSE = 6000; // ms in which what a step has shown can be read
const still = matchMedia('(prefers-reduced-motion: reduce)');

// The browser's storage may be forbidden: then it is not remembered.
const remembered = () => {
  try {
    return localStorage.getItem('tour') === 'over';
  } catch {
    return false;
  }
};
const remember = () => {
  try {
    localStorage.setItem('tour', 'over');
  } catch {
    // then it is offered again
  }
};

export class Tour {
  #card = document.getElementById('tour');
  #home = this.#card.parentElement;
  #again = document.getElementById('tour-again');
  #status = document.getElementById('tour-status');
  #part = (name) => this.#card.querySelector(`[data-tour-part="${name}"]`);
  #next = this.#part('next');
  #skip = this.#part('skip');
  #offered = false;
  #view = {};
  #steps = [];
  #step = null; // the index; null while there is none
  #tour = {}; // what the steps have found out; see tour_steps.js
  #target = null; // the control that is pointed at
  #result = '';
  #doneAt = 0;

  constructor() {
    this.#again.addEventListener('click', () => {
      this.#hide();
      this.#begin();
      this.#card.focus({ preventScroll: true });
    });
    this.#next.addEventListener('click', () => (this.#step === null ? this.#begin() : this.#goOn()));
    this.#skip.addEventListener('click', () => this.#end('The tour is skipped.'));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.#card.hidden) this.#end('The tour is skipped.');
    });
  }

  /** hello offers the tour once, if there are buttons to press. */
  hello({ control }) {
    const can = Boolean(control && words.audited);
    this.#again.hidden = !can;
    if (!can) this.#hide();
    else if (!this.#offered && !remembered()) this.#show();
    this.#offered = can;
  }

  note(note) {
    if (this.#step !== null) this.#current.note?.(note, this.#tour);
  }

  sample(sample, system) {
    if (this.#step === null) return;
    this.#tour.system = system;
    this.#current.sample?.(sample, this.#tour);
  }

  render(view) {
    this.#view = view;
    if (this.#step === null || this.#card.hidden) return;
    Object.assign(this.#tour, { now: view.now, system: view.system });
    if (!this.#result) this.#look();
    this.#point();
    if (this.#result && this.#step < this.#steps.length - 1 && performance.now() - this.#doneAt > PAUSE && !this.#held()) this.#goOn();
  }

  get #current() {
    return this.#steps[this.#step];
  }

  // #look asks the step how far it is.
  #look() {
    const { live = '', result = '', goOn = false } = this.#current.see(this.#view, this.#tour);
    this.#say('say', this.#current.say(this.#view, this.#tour));
    this.#say('live', result ? '' : live);
    if (!result) return;
    this.#result = result;
    this.#doneAt = performance.now();
    if (goOn) {
      this.#goOn();
      return;
    }
    this.#say('result', result);
    this.#announce(result);
    const last = this.#step === this.#steps.length - 1;
    setText(this.#next, last ? 'Done' : 'Next');
    this.#next.hidden = false;
    this.#skip.hidden = last;
  }

  // #held says that somebody reads, or has a finger on a button of the card.
  #held() {
    const focus = document.activeElement;
    return this.#card.matches(':hover') || (focus !== this.#card && this.#card.contains(focus));
  }

  // #show offers the tour at the top of the page.
  #show() {
    this.#say('before', '');
    this.#say('title', 'New here? A tour of six steps, about a minute');
    this.#say('say', `${capital(words.do)} a ${words.one}, watch it travel, break three things, and see that nothing is lost.`);
    this.#say('live', '');
    this.#say('result', '');
    setText(this.#next, 'Start the tour');
    this.#next.hidden = this.#card.hidden = false;
  }

  #begin() {
    this.#steps = steps(this.#view);
    this.#tour = { began: this.#view.now, now: this.#view.now, system: this.#view.system };
    this.#go(0, '');
  }

  #goOn() {
    if (this.#step === this.#steps.length - 1) this.#end('The tour is over.');
    else this.#go(this.#step + 1, this.#result);
  }

  #go(step, before) {
    const focus = document.activeElement;
    const follows = this.#card.contains(focus) || (this.#target !== null && this.#target === focus);
    this.#current?.end?.(this.#tour);
    this.#step = step;
    this.#result = '';
    this.#current.begin?.(this.#tour);
    this.#next.hidden = true;
    this.#skip.hidden = this.#card.hidden = false;
    const title = `Step ${step + 1} of ${this.#steps.length}: ${this.#current.title}`;
    const say = this.#current.say(this.#view, this.#tour);
    this.#say('before', before && `✓ ${before}`);
    this.#say('title', title);
    this.#say('say', say);
    this.#say('live', '');
    this.#say('result', '');
    this.#announce(`${before} ${title}. ${say}`);
    this.#point();
    if (follows) this.#card.focus({ preventScroll: true });
    this.#bringIntoView();
  }

  // #point puts the card beside the control of the step, and marks that.
  #point() {
    const target = this.#current.target(this.#view, this.#tour) ?? null;
    if (this.#target !== target) delete this.#target?.dataset.tour;
    this.#target = target;
    if (!target) return;
    target.dataset.tour = '';
    const row = target.closest('.process');
    const host = row ?? target.parentElement;
    if (this.#card.parentElement === host) return;
    // Within a row it comes first; above the others it comes right before them.
    const focus = this.#card.contains(document.activeElement) ? document.activeElement : null;
    host.insertBefore(this.#card, row ? row.firstChild : target);
    focus?.focus({ preventScroll: true });
  }

  #bringIntoView() {
    const behavior = still.matches ? 'instant' : 'smooth';
    const row = this.#card.closest('.process');
    if (row) row.scrollIntoView({ block: 'nearest', behavior });
    else this.#card.scrollIntoView({ block: 'start', behavior });
  }

  #hide() {
    this.#current?.end?.(this.#tour);
    delete this.#target?.dataset.tour;
    this.#card.hidden = true;
    this.#step = this.#target = null;
    this.#home.append(this.#card); // a row that is removed would take it along
  }

  #end(how) {
    const focused = this.#card.contains(document.activeElement);
    const target = this.#target;
    remember();
    this.#hide();
    this.#announce(`${how} “Tour” at the top of the page begins it again.`);
    if (focused) (target?.closest('button, [tabindex]') ?? this.#again).focus({ preventScroll: true });
  }

  #say(part, text) {
    const element = this.#part(part);
    setText(element, text);
    element.hidden = !text;
  }

  #announce(text) {
    setText(this.#status, text.trim());
  }
}
