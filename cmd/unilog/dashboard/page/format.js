// Figures as text. Amounts stay decimal strings from end to end.

export const NOTHING = '–';

/** group puts commas into a decimal string, digit for digit. */
export function group(decimal) {
  const parts = /^(-?)(\d+)(\.\d+)?$/.exec(decimal);
  if (!parts) return decimal;
  const [, sign, whole, fraction = ''] = parts;
  return (sign && '−') + whole.replace(/\B(?=(\d{3})+$)/g, ',') + fraction;
}

export const isZero = (decimal) => /^-?0*\.?0*$/.test(decimal);

export const count = (n) => (n == null ? NOTHING : group(String(Math.round(n))));

export const records = (n) => `${count(n)} ${n === 1 ? 'record' : 'records'}`;

/** rate is per second, with a decimal where that says something. */
export const rate = (n) => (n == null ? NOTHING : n < 10 ? n.toFixed(1) : count(n));

/** duration takes seconds. */
export function duration(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  return longDuration(seconds);
}

/** longDuration takes seconds, and knows none that are shorter. */
export function longDuration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${count(Math.floor(s / 3600))} h ${Math.floor((s % 3600) / 60)} min`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** time is the clock's, here, of Unix milliseconds. */
export const time = (ms) => clock.format(ms);

/** title begins a sentence with a name. */
export const title = (name) => name[0].toUpperCase() + name.slice(1);

/** setText is for elements of text alone, and does nothing where it is the same. */
export function setText(element, text) {
  const node = element.firstChild;
  if (!node) element.append(text);
  else if (node.data !== text) node.data = text;
}

/** setData sets a data attribute, or removes it if the value is null. */
export function setData(element, name, value) {
  if (value == null) delete element.dataset[name];
  else if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

/** make returns a new element with a class and a text. */
export function make(tag, className = '', text = '') {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
