// The audit: what is true on one side, what each consumer makes of it on the
// other, and whether it is the same.

import { count, group, isZero, longDuration, make, setData, setText, time } from './format.js';
import { amount as measured, words } from './words.js';

const SIGNS = { true: '=', false: '≠', unknown: '?' };
// An audit is not of now after this many ms, or after three times the pause between
// the last two: with much to add up they are made more rarely.
const LATE = 5000;

export class AuditView {
  #root = document.getElementById('audit');
  #rows = new Map();
  #last = 0;
  #pause = 0;

  render({ audit, stale, now }) {
    if (!audit) return;
    if (audit.t !== this.#last) {
      this.#pause = this.#last && audit.t - this.#last;
      this.#last = audit.t;
    }
    const late = stale || now - audit.t > Math.max(LATE, 3 * this.#pause);
    const known = !audit.error && !late;
    const state = !known ? 'unknown' : String(audit.agrees && audit.balances.length > 0);
    setData(this.#root, 'agrees', audit.balances.length ? state : 'unknown');
    setText(document.getElementById('truth'), group(audit.truth));
    setText(document.getElementById('verdict'), this.#verdict(audit, known));
    const equal = audit.agrees ? 'equal' : 'not equal';
    const since = known
      ? `${equal === 'equal' ? 'Equal' : 'Not equal'} since ${time(audit.since)}, for ${longDuration((audit.t - audit.since) / 1000)}.`
      : `When last heard of: ${equal}, since ${time(audit.since)}.`;
    setText(
      document.getElementById('audit-notes'),
      audit.checks === 0
        ? ''
        : `${since} Checked ${count(audit.checks)} ${audit.checks === 1 ? 'time' : 'times'}, ${audit.count == null ? '' : `over ${count(audit.count)} ${words.many}, `}in one snapshot each, while everything runs.`,
    );
    this.#balances(audit, known);
  }

  #verdict(audit, known) {
    if (!known) {
      const why = audit.error ? `it could not be made: ${audit.error}` : 'there is no word of it just now';
      return `Unknown: ${why}. Figures as of ${time(audit.t)}.`;
    }
    if (audit.balances.length === 0) return 'There is no consumer to compare with yet.';
    if (!audit.agrees) return 'The totals DO NOT agree.';
    return audit.balances.length === 1 ? 'The totals agree.' : `All ${audit.balances.length + 1} totals agree.`;
  }

  #balances(audit, known) {
    const host = document.getElementById('balances');
    const names = new Set(audit.balances.map((b) => b.consumer));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    // All rows have the same columns, so that the eye can run down them.
    setData(host, 'parked', audit.balances.some((b) => !isZero(b.parked)) ? '' : null);
    for (const b of audit.balances) {
      if (!this.#rows.has(b.consumer)) {
        const row = new Row(b.consumer);
        this.#rows.set(b.consumer, row);
        host.append(row.element);
      }
      this.#rows.get(b.consumer).render(b, known ? String(b.agrees) : 'unknown');
    }
  }
}

// Row is one consumer's side of the equation.
class Row {
  element = make('div', 'balance');
  #sign = make('span', 'sign');
  #word = make('span', 'visually-hidden');
  #difference = make('p', 'difference');
  #terms = {};

  constructor(name) {
    this.element.dataset.consumer = name;
    const terms = make('dl', 'terms');
    for (const [key, label] of [
      ['total', `total of ${name}`],
      ['ahead', 'still in the log'],
      ['staged', 'still staged'],
      ['parked', 'parked'],
    ]) {
      const term = make('div', `term term-${key}`);
      const amount = make('dd', 'amount');
      const value = make('span');
      value.dataset.testid = `audit-${name}-${key}`;
      amount.append(value, ' ', make('small', '', words.unit));
      term.append(make('dt', 'label', label), amount);
      terms.append(term);
      this.#terms[key] = { term, value };
    }
    this.#sign.setAttribute('aria-hidden', 'true');
    this.element.append(this.#sign, this.#word, terms, this.#difference);
  }

  render(balance, state) {
    setData(this.element, 'agrees', state);
    setText(this.#sign, SIGNS[state]);
    setText(this.#word, { true: 'equals', false: 'does not equal', unknown: 'equal or not is not known' }[state]);
    for (const [key, { term, value }] of Object.entries(this.#terms)) {
      setText(value, group(balance[key]));
      setData(term, 'zero', isZero(balance[key]) ? '' : null);
    }
    setText(this.#difference, state === 'false' ? `off by ${measured(group(balance.difference))}` : '');
  }
}
