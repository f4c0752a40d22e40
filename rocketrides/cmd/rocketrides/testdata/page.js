// What the tests in a browser need to know of the page. It runs before the page's
// own scripts.
'use strict';
{
  const all = (selector) => [...document.querySelectorAll(selector)];

  window.text = (selector) => document.querySelector(selector)?.textContent.trim() ?? '';
  window.texts = (selector) => all(selector).map((e) => e.textContent.trim());
  window.num = (selector) => parseFloat(text(selector).replaceAll(',', ''));
  window.data = (selector, name) => document.querySelector(selector)?.dataset[name] ?? '';

  // seen is what the page has ever shown.
  window.seen = { agrees: {}, now: {}, said: new Set() };
  setInterval(() => {
    const [audit, now] = [document.getElementById('audit'), document.getElementById('now')];
    if (!audit) return;
    seen.agrees[audit.dataset.agrees] = (seen.agrees[audit.dataset.agrees] ?? 0) + 1;
    seen.now[now.dataset.level] = (seen.now[now.dataset.level] ?? 0) + 1;
    seen.said.add(now.textContent);
  }, 20);
  window.said = (words) => [...seen.said].some((text) => text.includes(words));

  // charts are the plots, as they come.
  window.charts = [];
  let Plot;
  Object.defineProperty(window, 'uPlot', {
    get: () => Plot,
    set(original) {
      Plot = class extends original {
        constructor(...args) {
          charts.push(super(...args));
        }
      };
      Object.assign(Plot, original);
    },
  });
  /** axis is the time axis of a plot that is shown. */
  window.axis = () => charts.at(-1).data[0];

  /** hardMarks are the times, in seconds, at which the first plot says by its pixels that
   * something was killed, frozen or lost. */
  window.hardMarks = () => {
    const chart = charts.at(-5);
    const { left, top, width } = chart.bbox;
    const probe = document.createElement('i');
    probe.style.color = 'var(--mark-hard)';
    document.body.append(probe);
    const { rgb } = rgba(getComputedStyle(probe).color);
    probe.remove();
    // Read from a copy: the browser complains of who reads a plot itself again and again.
    const copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    copy.canvas.width = width;
    copy.canvas.height = 1;
    copy.drawImage(chart.ctx.canvas, -left, -top - 1);
    const row = copy.getImageData(0, 0, width, 1).data;
    const marked = (x) => row[4 * x + 3] > 128 && rgb.every((v, i) => Math.abs(v - row[4 * x + i]) < 10);
    return [...Array(Math.floor(width)).keys()]
      .filter((x) => marked(x) && !(x > 0 && marked(x - 1)))
      .map((x) => chart.posToVal((x + 2) / devicePixelRatio, 'x'));
  };

  /** overlaps says whether one element covers a part of another. */
  window.overlaps = (one, other) => {
    const [a, b] = [one, other].map((selector) => document.querySelector(selector).getBoundingClientRect());
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  };

  const rgba = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (colour, ground) => ground.map((g, i) => colour.rgb[i] * colour.a + g * (1 - colour.a));
  const luminance = (rgb) =>
    rgb
      .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const ground = (element) => {
    const parent = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return over(rgba(getComputedStyle(element).backgroundColor), parent);
  };

  /**
   * contrast looks at every text that is visible, and at what comes before it by
   * style: how many there are, and those with less contrast than WCAG's AA.
   */
  window.contrast = () => {
    const found = { texts: 0, low: [] };
    const check = (element, style, what) => {
      if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return;
      if (element.closest(':disabled')) return;
      const size = parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
      const behind = ground(element);
      const got = ratio(over(rgba(style.color), behind), behind);
      found.texts++;
      if (got < least) found.low.push(`${got.toFixed(2)} of ${least}: ${element.className || element.tagName} "${what}"`);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { data, parentElement } = texts.currentNode;
      if (data.trim()) check(parentElement, getComputedStyle(parentElement), data.trim());
    }
    for (const element of all('body *')) {
      const before = getComputedStyle(element, '::before');
      if (/^"\s*\S+\s*"/.test(before.content)) check(element, before, before.content);
    }
    return found;
  };

  const name = (e) => e.getAttribute('aria-label') || e.id || e.textContent.trim();
  /** stops are what the Tab key should reach, in this order. */
  window.stops = () =>
    all('a[href], button:enabled, input:enabled, [tabindex="0"]')
      .filter((e) => e.checkVisibility())
      .map(name);
  /** focus is where it is, and whether that can be seen. */
  window.focused = () => {
    const e = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(e);
    const box = e.getBoundingClientRect();
    const inView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return { name: name(e), seen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && inView };
  };

  /** overflow names what is wider than the window, or than the frame that hides it, or an
   * amount than its place; with the amounts as they are, or as long as another one. */
  window.overflow = (amount) => {
    const spans = amount ? all('.amount span') : [];
    const before = spans.map((e) => e.textContent);
    for (const e of spans) e.textContent = amount;
    const { scrollWidth, clientWidth } = document.documentElement;
    const wide = all('body *')
      .filter((e) => e.checkVisibility() && !e.matches('.visually-hidden, .visually-hidden *, svg *'))
      .filter((e) => {
        const { overflowX, textOverflow } = getComputedStyle(e);
        const hides = overflowX !== 'visible' || e.matches('.amount');
        const cut = hides && textOverflow !== 'ellipsis' && e.scrollWidth > e.clientWidth + 1;
        return cut || (scrollWidth > clientWidth && e.getBoundingClientRect().right > clientWidth);
      })
      .map((e) => `${e.className || e.tagName} ${name(e).slice(0, 60)}`);
    spans.forEach((e, i) => (e.textContent = before[i]));
    return wide;
  };

  /** dots says whether a record is seen to move just now. */
  window.dots = () =>
    all('#dots canvas').some((canvas) =>
      canvas.width && canvas.height
        ? canvas
            .getContext('2d', { willReadFrequently: true })
            .getImageData(0, 0, canvas.width, canvas.height)
            .data.some(Boolean)
        : false,
    );
}
