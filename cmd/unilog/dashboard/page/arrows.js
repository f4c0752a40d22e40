// The arrows between the stations, wherever the layout has put them, and the
// records that move along them.

const NS = 'http://www.w3.org/2000/svg';
const POINTS = 8; // along a bent path, for the dots
const FLIGHT = 1500; // ms
export const FRAME = 200; // ms

/** untilNext is how long, in milliseconds, until a period begins. All that is drawn
 * keeps to the same beat, because each frame costs, however little is new in it. */
export const untilNext = (period) => period - (performance.now() % period);

const still = matchMedia('(prefers-reduced-motion: reduce)');

/** density is how many dots a second stand for how many records a second. */
const density = (rate) => (rate <= 3 ? rate : Math.min(8, 3 * (rate / 3) ** 0.2));

export class Arrows {
  #flow;
  #svg;
  #dots;
  #arrows = new Map(); // by name: {points, canvas, left, top, rate, due, starts}
  #seen = true; // the drawing is in the window
  #ticked = performance.now();
  #scale;
  #radius;
  #colour;

  constructor(flow) {
    this.#flow = flow;
    this.#svg = flow.querySelector('#arrows');
    this.#dots = flow.querySelector('#dots');
    new ResizeObserver(() => this.layout()).observe(flow);
    new IntersectionObserver(([entry]) => {
      this.#seen = entry.isIntersecting;
    }).observe(flow);
    document.addEventListener('themechange', () => this.layout());
    const tick = () => {
      this.#tick();
      setTimeout(tick, untilNext(FRAME));
    };
    tick();
  }

  /** layout draws the arrows anew: when sizes or the consumers have changed. */
  layout() {
    const frame = this.#flow.getBoundingClientRect();
    const box = (element) => {
      const r = element.getBoundingClientRect();
      return {
        left: r.left - frame.left,
        right: r.right - frame.left,
        top: r.top - frame.top,
        bottom: r.bottom - frame.top,
        x: (r.left + r.right) / 2 - frame.left,
        y: (r.top + r.bottom) / 2 - frame.top,
      };
    };
    const node = (name) => this.#flow.querySelector(`[data-node="${name}"]`);
    this.#scale = Math.min(devicePixelRatio, 2);
    this.#radius = parseFloat(getComputedStyle(this.#flow).fontSize) * 0.25;
    this.#colour = getComputedStyle(this.#dots).color;
    this.#dots.replaceChildren();
    this.#svg.setAttribute('viewBox', `0 0 ${frame.width} ${frame.height}`);
    this.#svg.replaceChildren();
    const before = this.#arrows;
    this.#arrows = new Map();
    const stations = ['api', 'staged', 'numbered', 'published'].map((name) => [name, box(node(name))]);
    const across = stations[1][1].left > stations[0][1].right;
    for (let i = 1; i < stations.length; i++) {
      const [, a] = stations[i - 1];
      const [name, b] = stations[i];
      const line = across
        ? [
            [a.right, a.y],
            [b.left, a.y],
          ]
        : [
            [a.x, a.bottom],
            [a.x, b.top],
          ];
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
    const steps = /[CQ]/.test(d) ? POINTS : 1;
    const points = Array.from({ length: steps + 1 }, (_, i) => path.getPointAtLength((length * i) / steps));
    const [from, to] = [path.getPointAtLength(length - 1), points[steps]];
    const head = document.createElementNS(NS, 'path');
    const r = this.#radius;
    head.setAttribute('d', `M${-1.75 * r},${-1.1 * r}L0,0L${-1.75 * r},${1.1 * r}`);
    head.setAttribute('class', 'arrow-head');
    const angle = (Math.atan2(to.y - from.y, to.x - from.x) * 180) / Math.PI;
    head.setAttribute('transform', `translate(${to.x},${to.y}) rotate(${angle})`);
    this.#svg.append(head);
    const old = before.get(name);
    this.#arrows.set(name, {
      points,
      ...this.#canvas(path),
      rate: old?.rate ?? 0,
      due: old?.due ?? 0,
      starts: old?.starts ?? [],
    });
  }

  // #canvas makes one that is no larger than the arrow: what is drawn again and
  // again should be small.
  #canvas(path) {
    const box = path.getBBox();
    const margin = this.#radius + 1;
    const [left, top, width, height] = [
      box.x - margin,
      box.y - margin,
      box.width + 2 * margin,
      box.height + 2 * margin,
    ].map(Math.ceil);
    const canvas = document.createElement('canvas');
    canvas.width = width * this.#scale;
    canvas.height = height * this.#scale;
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    this.#dots.append(canvas);
    return { canvas, left, top };
  }

  // #stem leads from the streamer to an arrow along which it moves records.
  #stem(streamer, [[x1, y1], [x2, y2]], across) {
    const stem = document.createElementNS(NS, 'path');
    stem.setAttribute(
      'd',
      across
        ? `M${(x1 + x2) / 2},${streamer.top}V${y1 + 2 * this.#radius}`
        : `M${streamer.left},${(y1 + y2) / 2}H${x1 + 2 * this.#radius}`,
    );
    stem.setAttribute('class', 'stem');
    this.#svg.append(stem);
  }

  /** setRate says how many records a second move along an arrow. */
  setRate(name, rate) {
    const arrow = this.#arrows.get(name);
    if (arrow) arrow.rate = rate ?? 0;
  }

  // #tick sends off the dots that came due, and moves all of them. Few frames
  // on small canvases cost less than animated elements, and are smooth enough.
  #tick() {
    const now = performance.now();
    const elapsed = Math.min(now - this.#ticked, 500);
    this.#ticked = now;
    if (document.hidden || !this.#seen) return;
    for (const arrow of this.#arrows.values()) {
      const before = arrow.starts.length;
      arrow.starts = still.matches ? [] : arrow.starts.filter((start) => now - start < FLIGHT);
      arrow.due += (density(arrow.rate) * elapsed) / 1000;
      if (arrow.due >= 1) {
        arrow.due += Math.random() - 1.5; // on average -1: real records do not come like clockwork
        if (!still.matches) arrow.starts.push(now);
      }
      if (before || arrow.starts.length) this.#draw(arrow, now);
    }
  }

  #draw({ points, canvas, left, top, starts }, now) {
    const context = canvas.getContext('2d', { willReadFrequently: true }); // so small ones are drawn without the GPU
    context.setTransform(this.#scale, 0, 0, this.#scale, -left * this.#scale, -top * this.#scale);
    context.clearRect(left, top, canvas.width, canvas.height);
    context.fillStyle = this.#colour;
    context.beginPath();
    for (const start of starts) {
      const at = ((now - start) / FLIGHT) * (points.length - 1);
      const [p, q, part] = [points[Math.floor(at)], points[Math.ceil(at)], at % 1];
      const [x, y] = [p.x + (q.x - p.x) * part, p.y + (q.y - p.y) * part];
      context.moveTo(x, y);
      context.arc(x, y, this.#radius, 0, 7);
    }
    context.fill();
  }
}
