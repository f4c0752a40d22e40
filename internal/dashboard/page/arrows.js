// The arrows between the stations, wherever the layout has put them, and the
// records that move along them.

const NS = 'http://www.w3.org/2000/svg';
const POINTS = 12; // of a path, for the dots
const FLIGHT = 1100; // ms
const MOST_DOTS = 120;

const still = matchMedia('(prefers-reduced-motion: reduce)');

/** density is how many dots a second stand for how many records a second. */
const density = (rate) => (rate <= 3 ? rate : Math.min(9, 3 * (rate / 3) ** 0.25));

export class Arrows {
  #flow; #svg; #dots;
  #arrows = new Map(); // by name: {path, points, rate, due}
  #idle = [];
  #made = 0;

  constructor(flow) {
    this.#flow = flow;
    this.#svg = flow.querySelector('#arrows');
    this.#dots = flow.querySelector('#dots');
    new ResizeObserver(() => this.layout()).observe(flow);
  }

  /** layout draws the arrows anew: when sizes or the consumers have changed. */
  layout() {
    const frame = this.#flow.getBoundingClientRect();
    const box = (element) => {
      const r = element.getBoundingClientRect();
      return { left: r.left - frame.left, right: r.right - frame.left, top: r.top - frame.top, bottom: r.bottom - frame.top,
        x: (r.left + r.right) / 2 - frame.left, y: (r.top + r.bottom) / 2 - frame.top };
    };
    const node = (name) => this.#flow.querySelector(`[data-node="${name}"]`);
    this.#svg.setAttribute('viewBox', `0 0 ${frame.width} ${frame.height}`);
    this.#svg.replaceChildren();
    const before = this.#arrows;
    this.#arrows = new Map();
    const stations = ['api', 'staged', 'numbered', 'published'].map((name) => [name, box(node(name))]);
    const across = stations[1][1].left > stations[0][1].right;
    for (let i = 1; i < stations.length; i++) {
      const [, a] = stations[i - 1];
      const [name, b] = stations[i];
      const line = across ? [[a.right, a.y], [b.left, a.y]] : [[a.x, a.bottom], [a.x, b.top]];
      this.#arrow(name, `M${line[0]}L${line[1]}`, before);
      if (i > 1) this.#stem(box(node('streamer')), line, across);
    }
    const log = stations[3][1];
    for (const element of this.#flow.querySelectorAll('.consumer')) {
      const c = box(element);
      const path = across
        ? `M${log.right},${log.y}C${(log.right + c.left) / 2},${log.y} ${(log.right + c.left) / 2},${c.y} ${c.left},${c.y}`
        : `M${c.left / 2},${log.bottom}V${c.y - 8}Q${c.left / 2},${c.y} ${c.left / 2 + 8},${c.y}H${c.left}`;
      this.#arrow(element.dataset.node, path, before);
    }
  }

  #arrow(name, d, before) {
    const path = document.createElementNS(NS, 'path');
    path.setAttribute('d', d);
    path.setAttribute('class', 'arrow');
    this.#svg.append(path);
    const length = path.getTotalLength();
    const points = Array.from({ length: POINTS + 1 }, (_, i) => path.getPointAtLength((length * i) / POINTS));
    const [from, to] = [path.getPointAtLength(length - 1), points[POINTS]];
    const head = document.createElementNS(NS, 'path');
    head.setAttribute('d', 'M-7,-4.5L0,0L-7,4.5');
    head.setAttribute('class', 'arrow-head');
    const angle = (Math.atan2(to.y - from.y, to.x - from.x) * 180) / Math.PI;
    head.setAttribute('transform', `translate(${to.x},${to.y}) rotate(${angle})`);
    this.#svg.append(head);
    const old = before.get(name);
    this.#arrows.set(name, { points, rate: old?.rate ?? 0, due: old?.due ?? 0 });
  }

  // #stem leads from the streamer to an arrow along which it moves records.
  #stem(streamer, [[x1, y1], [x2, y2]], across) {
    const stem = document.createElementNS(NS, 'path');
    stem.setAttribute('d', across ? `M${(x1 + x2) / 2},${streamer.top}V${y1 + 8}` : `M${streamer.left},${(y1 + y2) / 2}H${x1 + 8}`);
    stem.setAttribute('class', 'stem');
    this.#svg.append(stem);
  }

  /** setRate says how many records a second move along an arrow. */
  setRate(name, rate) {
    const arrow = this.#arrows.get(name);
    if (arrow) arrow.rate = rate ?? 0;
  }

  /** move sends off the dots that came due in the last milliseconds. */
  move(elapsed) {
    if (still.matches || document.hidden) return;
    for (const arrow of this.#arrows.values()) {
      arrow.due = Math.min(arrow.due + (density(arrow.rate) * elapsed) / 1000, 3);
      for (let delay = 0; arrow.due >= 1; arrow.due--, delay += elapsed / 3) this.#send(arrow, delay);
    }
  }

  #send({ points }, delay) {
    let dot = this.#idle.pop();
    if (!dot) {
      if (this.#made >= MOST_DOTS) return;
      this.#made++;
      dot = document.createElement('i');
      this.#dots.append(dot);
    }
    const frames = points.map((p) => ({ transform: `translate(${p.x}px,${p.y}px)`, opacity: 1 }));
    frames[0].opacity = 0;
    frames[POINTS].opacity = 0;
    dot.animate(frames, { duration: FLIGHT, delay: delay + Math.random() * 100 }).finished
      .then(() => this.#idle.push(dot), () => this.#idle.push(dot));
  }
}
