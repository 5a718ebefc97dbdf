// Charts: one small plot per measure below each other, with one common time axis, so that counts of very different
// size can be compared in time. uPlot is loaded by the page as a classic script.

import { h } from './dom.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// wholeSteps are the steps of an axis of counts: there is no half an event.
const wholeSteps = Array.from({ length: 16 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** i)).flat();

// Charts draws specs = [{ key, title, color, format, height }] with data = { times: [unix seconds], series: { key: [] } }.
export class Charts {
  constructor(box) {
    this.box = box;
    this.plots = [];
    this.shown = '';
    this.sync = uPlot.sync('charts');
    this.frame = 0;
    new ResizeObserver(() => this.resize()).observe(box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.rebuild());
  }

  // show draws, or only puts new data into the plots that are there.
  show(view) {
    const shape = JSON.stringify([view.specs.map((s) => s.key), view.zone, view.step, view.times.length > 130, view.dates]);
    this.view = view;
    if (shape !== this.shown) {
      this.shown = shape;
      this.build();
      return;
    }
    for (const plot of this.plots) {
      plot.uplot.setData([view.times, view.series[plot.spec.key]]);
      this.describe(plot);
    }
  }

  rebuild() {
    if (this.view) this.build();
  }

  clear(...children) {
    this.destroy();
    this.shown = '';
    this.view = null;
    this.box.replaceChildren(...children);
  }

  destroy() {
    for (const plot of this.plots) plot.uplot.destroy();
    this.plots = [];
  }

  build() {
    this.destroy();
    const { view } = this;
    const nodes = view.specs.map((spec, i) => {
      const output = h('output', { 'aria-hidden': 'true' });
      const area = h('div', { class: 'chart-plot', role: 'img' });
      const node = h('figure', { style: { margin: '0', '--c': `var(${spec.color})` } },
        h('figcaption', { class: 'chart-head' }, h('i'), h('b', null, spec.title), output), area);
      this.plots.push({ spec, node, area, output, last: i === view.specs.length - 1 });
      return node;
    });
    this.box.replaceChildren(...nodes);
    for (const plot of this.plots) {
      plot.uplot = new uPlot(this.options(plot), [view.times, view.series[plot.spec.key]], plot.area);
      this.sync.sub(plot.uplot);
      this.describe(plot);
    }
  }

  options(plot) {
    const { view } = this;
    const many = view.times.length > 130;
    const color = css(plot.spec.color);
    const axis = { stroke: css('--soft'), font: '12px system-ui, sans-serif', ticks: { show: false }, grid: { stroke: css('--line'), width: 1 } };
    const series = { stroke: color, width: many ? 1.5 : 0, fill: many ? `${color}2b` : color, points: { show: false } };
    if (!many) series.paths = uPlot.paths.bars({ size: [0.72, 26], radius: 0.18 });
    return {
      width: Math.max(this.box.clientWidth, 120),
      height: plot.spec.height + (plot.last ? 24 : 0),
      padding: [6, 16, plot.last ? 0 : 4, 0],
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), view.dates ? 'UTC' : view.zone),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: many, size: 7 }, sync: { key: this.sync.key } },
      scales: {
        // Not from the smallest to the largest that uPlot has found: of a single bucket it makes years.
        x: { range: () => [this.view.times[0] - view.step * 0.6, this.view.times.at(-1) + view.step * 0.6] },
        y: { range: (_, min, max) => [Math.min(0, min), max > 0 ? max * 1.08 : min < 0 ? 0 : 1] },
      },
      axes: [
        { ...axis, show: plot.last, size: 24, space: 64, grid: { show: false }, values: timeValues(view) },
        { ...axis, size: 52, gap: 6, space: 22, incrs: plot.spec.whole ? wholeSteps : undefined, values: (_, splits) => splits.map((v) => plot.spec.axis(v)) },
      ],
      series: [{}, series],
      hooks: { setCursor: [() => this.read(plot)] },
    };
  }

  // read writes what stands under the cursor, or the newest value.
  read(plot) {
    const { view } = this;
    const at = plot.uplot && plot.uplot.cursor.idx;
    const values = view.series[plot.spec.key];
    const index = at === null || at === undefined ? values.length - 1 : at;
    plot.output.textContent = values.length ? `${view.label(view.times[index])}  ·  ${plot.spec.format(values[index])}` : '';
  }

  describe(plot) {
    const values = this.view.series[plot.spec.key];
    const peak = values.reduce((a, b) => Math.max(a, b), 0);
    plot.area.setAttribute('aria-label',
      `${plot.spec.title}, ${values.length} ${this.view.unit}: last ${plot.spec.format(values.at(-1) || 0)}, highest ${plot.spec.format(peak)}`);
    this.read(plot);
  }

  resize() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      const width = Math.max(this.box.clientWidth, 120);
      for (const plot of this.plots) {
        if (plot.uplot.width !== width) plot.uplot.setSize({ width, height: plot.uplot.height });
      }
    });
  }
}

// timeValues writes the time axis: hours and minutes within a day, and the date where a new one begins.
function timeValues(view) {
  const zone = view.dates ? 'UTC' : view.zone;
  const make = (opts) => new Intl.DateTimeFormat('en-GB', { timeZone: zone, ...opts });
  const hm = make({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  const day = make({ day: 'numeric', month: 'short' });
  const month = make({ month: 'short', year: 'numeric' });
  return (_, splits, axis, space, step) => {
    let before = '';
    return splits.map((ts) => {
      const at = new Date(ts * 1000);
      if (step >= 28 * 86400) return month.format(at);
      const date = day.format(at);
      if (step >= 86400) return date;
      const text = date !== before && (before !== '' || hm.format(at) === '00:00') ? date : hm.format(at);
      before = date;
      return text;
    });
  };
}
