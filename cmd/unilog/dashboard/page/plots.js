// The plots of the last five minutes.

import { SPAN } from './history.js';
import { count, duration, group, make, rate, setText } from './format.js';
import { capital, words } from './words.js';

/* global uPlot */

const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

const ms = (v) => duration(v == null ? null : v / 1000);
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8];
const axisTime = (v) => (v < 1000 ? `${v} ms` : `${group(String(v / 1000))} s`);
const KINDS = [
  {
    id: 'written',
    title: `${capital(words.many)} ${words.did}`,
    unit: 'per second',
    text: (v) => (v == null ? '–' : `${rate(v)} /s`),
    wide: true,
  },
  { id: 'lag', title: 'Consumers behind', unit: 'records', text: count, perConsumer: true },
  { id: 'wait', title: 'Consumers behind', unit: 'time', text: ms, perConsumer: true, time: true },
  { id: 'latency', title: `From ${words.doing} to consumer`, unit: 'time', text: ms, names: ['p50', 'p99'], time: true },
  { id: 'backlog', title: 'Not published yet', unit: 'records', text: count },
];

// rem is the size of the text, which everything else goes by.
const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

const colours = new Map();
document.addEventListener('themechange', () => colours.clear());

// colour reads a custom property as the theme resolves it.
function colour(name) {
  if (colours.has(name)) return colours.get(name);
  const probe = make('i');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  colours.set(name, value);
  return value;
}

export class Plots {
  #host = document.getElementById('plots');
  #marks = []; // see marks.js
  #names = null;
  #plots = [];
  #columns = null;
  #seen = true; // the plots are in the window

  constructor() {
    new IntersectionObserver(
      ([entry]) => {
        this.#seen = entry.isIntersecting;
      },
      { rootMargin: '10%' },
    ).observe(this.#host);
    document.addEventListener('themechange', () => {
      this.#names = null;
    });
    new ResizeObserver(() => {
      for (const p of this.#plots) p.plot.setSize(this.#size(p.frame));
    }).observe(this.#host);
  }

  /** render draws the history and the marks up to now, in Unix milliseconds. */
  render(history, marks, now) {
    this.#marks = marks.since(now - SPAN, now);
    const names = history.consumers();
    const same = this.#names && names.join() === this.#names.join();
    if (same && !this.#seen) return;
    if (!same) this.#build(names);
    this.#columns = history.columns(names);
    for (const p of this.#plots) {
      p.plot.setData([this.#columns.time, ...this.#values(p.kind)], false);
      p.plot.setScale('x', { min: (now - SPAN) / 1000, max: now / 1000 });
      this.#legend(p, p.plot.cursor.left >= 0 ? p.plot.cursor.idx : null);
    }
  }

  #values(kind) {
    if (kind.id === 'latency') return [this.#columns.p50, this.#columns.p99];
    return kind.perConsumer ? this.#columns[kind.id] : [this.#columns[kind.id]];
  }

  #size(frame) {
    return { width: Math.max(100, Math.floor(frame.clientWidth)), height: Math.round(rem() * 8.5) };
  }

  #build(names) {
    for (const p of this.#plots) p.plot.destroy();
    this.#host.replaceChildren();
    this.#names = names;
    this.#plots = KINDS.map((kind) => this.#plot(kind, kind.perConsumer ? names : (kind.names ?? [''])));
  }

  #plot(kind, labels) {
    const figure = make('figure', kind.wide ? 'wide' : '');
    const caption = make('figcaption');
    const title = make('p', 'title', kind.title);
    title.append(' ', make('small', 'quiet', kind.unit));
    const legend = make('p', 'legend');
    const values = labels.map((label, i) => {
      const item = make('span', `series series-${i % 6}`);
      const value = make('b', '', '–');
      item.append(make('i'), label, ' ', value);
      legend.append(item);
      return value;
    });
    caption.append(title, legend);
    const frame = make('div', 'plot');
    frame.setAttribute('role', 'img');
    figure.append(caption, frame);
    figure.dataset.plot = kind.id;
    this.#host.append(figure);
    const p = { kind, frame, values, figure };
    p.plot = new uPlot(this.#options(p, labels), null, frame);
    return p;
  }

  #options(p, labels) {
    const em = rem();
    const font = `${Math.round(em * 0.72)}px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: colour('quiet'), font, grid: { stroke: colour('hair'), width: 1 }, ticks: { show: false } };
    const low = p.kind.time ? 20 : 10; // so that noise near zero does not fill the plot
    return {
      ...this.#size(p.frame),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'written' }, points: { size: em * 0.4 } },
      padding: [em * 0.5, em * 0.6, 0, 0],
      scales: { x: { time: true, auto: false }, y: { range: (u, min, max) => [0, Math.max(low, (max ?? 0) * 1.1)] } },
      axes: [
        {
          ...axis,
          size: em * 1.5,
          space: em * 4.5,
          values: (u, splits) =>
            splits.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })),
          incrs: [60, 120],
        },
        {
          ...axis,
          size: em * 3.4,
          space: em * 1.9,
          gap: 4,
          values: (u, splits) => splits.map(p.kind.time ? axisTime : count),
          incrs: STEPS,
        },
      ],
      series: [
        {},
        ...labels.map((label, i) => ({
          label,
          stroke: colour(`series-${i % 6}`),
          width: Math.max(1.5, em * 0.1),
          dash: DASHES[i % DASHES.length],
          points: { show: false },
          fill: labels.length === 1 ? colour('area') : undefined,
        })),
      ],
      hooks: { drawClear: [(u) => this.#drawMarks(u)], setCursor: [(u) => this.#legend(p, u.cursor.idx)] },
    };
  }

  // #drawMarks draws what failed, below the lines.
  #drawMarks(u) {
    const { ctx, bbox } = u;
    const soft = colour('mark-soft');
    const hard = colour('mark-hard');
    const width = Math.max(1, Math.round((devicePixelRatio * rem()) / 16));
    ctx.save();
    for (const mark of this.#marks) {
      const t = mark.t / 1000;
      if (t < u.scales.x.min || t > u.scales.x.max) continue;
      const x = Math.round(u.valToPos(t, 'x', true));
      if (mark.soft) {
        const height = Math.min(bbox.height, 7 * width);
        ctx.fillStyle = soft;
        ctx.fillRect(x, bbox.top + bbox.height - height, width, height);
      }
      if (mark.hard) {
        ctx.fillStyle = hard;
        ctx.fillRect(x, bbox.top, 2 * width, bbox.height);
        ctx.fillRect(x - 2 * width, bbox.top, 6 * width, 4 * width);
      }
    }
    ctx.restore();
  }

  // #legend shows the values under the cursor, or the last ones.
  #legend(p, index) {
    if (!this.#columns) return;
    const said = p.values.map((element, i) => {
      const values = this.#values(p.kind)[i] ?? [];
      const text = p.kind.text(index == null ? values.at(-1) : values[index]);
      setText(element, text);
      return text;
    });
    if (index == null) p.frame.setAttribute('aria-label', `${p.kind.title}: ${said.join(', ')}`);
  }
}
