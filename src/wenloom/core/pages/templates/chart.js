"use strict";
// The line chart of a page: marks on its axes, the values under the pointer or at the arrow keys, logarithmic axes,
// smoothing. Marks, numbers and smoothing are the same as in ticks.py and smoothing.py; a test compares them.

const WenloomChart = (() => {
  const DURATIONS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const SHARES = [0, 0.02, 0.05, 0.1, 0.2], FEWEST = 20;
  const HEIGHT = 260, TOP = 12, RIGHT = 14, BOTTOM = 44;

  // --- marks and numbers ---

  function roundStep(rough) {
    const magnitude = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 2.5, 5, 10].find(each => rough <= each * magnitude * 1.25) * magnitude;
  }

  function multiples(low, high, step) {
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => Number(((first + n) * step).toPrecision(12)));
  }

  const hasRange = (low, high) => high - low > 0 && high - low < Infinity;

  function ticks(low, high, count = 5) {
    return hasRange(low, high) ? multiples(low, high, roundStep((high - low) / count)) : [low];
  }

  function durationTicks(low, high, count = 5) {
    const rough = (high - low) / count;
    if (!hasRange(low, high) || rough < 1) return ticks(low, high, count);
    const step = DURATIONS.find(each => rough <= each * 1.25);
    return multiples(low, high, step || 86400 * roundStep(rough / 86400));
  }

  function logTicks(low, high, count = 5) {
    const decades = Math.log10(high / low);
    if (decades < 1) return ticks(low, high, count);
    const leap = decades <= count * 1.5 ? 1 : Math.ceil(decades / count);
    const digits = decades <= count * 0.6 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += leap)
      for (const digit of digits) found.push(Number((digit * 10 ** power).toPrecision(12)));
    return found.filter(each => low * 0.9999 <= each && each <= high * 1.0001);
  }

  function logDurationTicks(low, high, count = 5) {
    const long = [1, 2, 5].flatMap(digit => [1, 10, 100].map(days => digit * days * 86400));
    const found = [...DURATIONS, ...long].filter(each => low <= each && each <= high);
    return found.length < 3 ? durationTicks(low, high, count) : [...new Set(found)].sort((a, b) => a - b);
  }

  const digits = (value, count) => String(Number(value.toPrecision(count)));

  function short(value) {
    const size = Math.abs(value);
    if (size > 0 && size < 1e-3) {
      const [mantissa, exponent] = value.toExponential(2).split("e");
      return `${Number(mantissa)}e${Number(exponent)}`;
    }
    for (const [limit, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (size >= limit) return digits(value / limit, 6) + unit;
    return digits(value, 6);
  }

  function shortDuration(seconds) {
    for (const [limit, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
      if (Math.abs(seconds) >= limit) return `${digits(seconds / limit, 3)} ${unit}`;
    return seconds ? `${digits(seconds, 3)} s` : "0";
  }

  function shortDate(year) {
    const whole = Math.floor(year + 1e-6), month = Math.floor((year - whole + 1e-6) * 12) + 1;
    return month === 1 ? String(whole) : `${whole}-${String(month).padStart(2, "0")}`;
  }

  const WRITTEN = {
    number: [ticks, short, logTicks], duration: [durationTicks, shortDuration, logDurationTicks], date: [ticks, shortDate],
  };

  /** A value as it is read out: five digits, and whole numbers whole. */
  function exact(value, kind = "number") {
    if (kind !== "number") return WRITTEN[kind][1](value);
    return Number.isInteger(value) ? value.toLocaleString("en") : short(Number(value.toPrecision(5)));
  }

  // --- smoothing: see smoothing.py ---

  function smoothed(xs, values, share) {
    const n = values.length;
    if (share <= 0 || n < FEWEST) return values.slice();
    const reach = Math.max(3, Math.floor(share * n / 2)), count = Math.min(n, 2 * reach + 1);
    return values.map((_, place) => {
      const begin = Math.min(Math.max(0, place - reach), n - count), end = begin + count, at = xs[place];
      const width = Math.max(at - xs[begin], xs[end - 1] - at) * (1 + 1 / reach) || 1;
      let s0 = 0, s1 = 0, s2 = 0, t0 = 0, t1 = 0;
      for (let other = begin; other < end; other++) {
        const distance = (xs[other] - at) / width, weight = (1 - Math.abs(distance) ** 3) ** 3, y = values[other];
        s0 += weight; s1 += weight * distance; s2 += weight * distance * distance;
        t0 += weight * y; t1 += weight * distance * y;
      }
      const spread = s0 * s2 - s1 * s1;
      return spread > 1e-9 * s0 * s0 ? (s2 * t0 - s1 * t1) / spread : t0 / s0;
    });
  }

  // --- scales ---

  function bounds(values, margin, zero, log) {
    if (log) values = values.filter(each => each > 0);
    if (!values.length) return log ? [1, 10] : [0, 1];
    let low = values[0], high = values[0];
    for (const each of values) { low = Math.min(low, each); high = Math.max(high, each); }
    if (log) return low === high ? [low / 2, high * 2] : [low * (low / high) ** margin, high * (high / low) ** margin];
    if (zero) low = Math.min(0, low);
    const flat = high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high));
    const space = flat ? Math.abs(high) * 0.1 || 1 : (high - low) * margin;
    return [zero ? low : low < 0 ? low - space : Math.max(0, low - space), high + space];
  }

  function scale([low, high], [from, to], log) {
    const of = log ? Math.log : value => value;
    const factor = (to - from) / (of(high) - of(low));
    return value => from + (of(value) - of(low)) * factor;
  }

  /** The place of the x that is nearest; xs ascend. */
  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return x - xs[low] <= xs[high] - x ? low : high;
  }

  /** Values between which all but the farthest half percent at either end lie. */
  function core(values) {
    const sorted = values.slice().sort((a, b) => a - b), cut = Math.floor(sorted.length * 0.005);
    return sorted.slice(cut, sorted.length - cut);
  }

  // --- the page ---

  const make = (name, attributes = {}, ...inside) => {
    const isSvg = ["svg", "g", "line", "path", "text", "circle", "clipPath", "rect"].includes(name);
    const made = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };

  const charts = [], SHARED = "all";

  class Chart {
    constructor(figure) {
      this.figure = figure;
      charts.push(this);
      figure.classList.remove("static");
      this.data = JSON.parse(figure.querySelector("script").textContent);
      this.plot = figure.querySelector(".plot");
      this.legend = figure.querySelector(".legend");
      this.name = `chart ${location.pathname} `;
      this.state = { logY: false, share: this.data.smoothing, hidden: [], axis: 0, logX: false };
      for (const part of [figure.id, SHARED]) {
        try { Object.assign(this.state, JSON.parse(sessionStorage.getItem(this.name + part))); } catch { /* not kept */ }
      }
      if (!(this.state.axis < this.data.axes.length)) this.state.axis = 0;
      this.at = null;
      this.controls();
      this.entries();
      this.listen();
      this.draw();
      new ResizeObserver(() => this.plot.clientWidth !== this.width && this.draw()).observe(this.plot);
    }

    /** Draw otherwise, and keep that for when the page is loaded again; the x axis is that of all charts of the page. */
    set(change) {
      Object.assign(this.state, change);
      const { axis, logX, ...own } = this.state, isShared = "axis" in change || "logX" in change;
      try {
        sessionStorage.setItem(this.name + (isShared ? SHARED : this.figure.id), JSON.stringify(isShared ? { axis, logX } : own));
      } catch { /* not kept */ }
      for (const chart of isShared ? charts : [this]) {
        if (axis < chart.data.axes.length) Object.assign(chart.state, { axis, logX });
        chart.at = null;
        chart.draw();
      }
    }

    controls() {
      const bar = make("div", { class: "controls" });
      const choice = (label, name, options, help = "") => {
        const select = make("select", { title: help });
        options.forEach(([text, value]) => select.append(make("option", { value }, text)));
        select.value = this.state[name];
        if (select.selectedIndex < 0) select.selectedIndex = 0;
        select.addEventListener("change", () => this.set({ [name]: Number(select.value) }));
        bar.append(make("label", {}, label, select));
      };
      const toggle = (label, name) => {
        const button = make("button", { type: "button", "aria-pressed": this.state[name] }, label);
        button.addEventListener("click", () => {
          this.set({ [name]: !this.state[name] });
          button.setAttribute("aria-pressed", this.state[name]);
        });
        bar.append(button);
      };
      const isFirst = this.figure === document.querySelector("figure.chart");
      if (isFirst && this.data.axes.length > 1) choice("by ", "axis", this.data.axes.map((each, place) => [each.label, place]));
      if (this.data.series.some(each => each.noisy && each.y.length >= FEWEST))
        choice("smoothed over ", "share", SHARES.map(each => [each ? `${100 * each} %` : "nothing", each]),
          "A straight line fitted to the neighbours on both sides of each value (tricube weights): it does not lag.");
      if (this.data.series.some(each => each.y.filter(value => value > 0).length > 1)) toggle("log y", "logY");
      if (isFirst && this.data.axes.some(each => each.kind !== "date")) toggle("log x", "logX");
      this.plot.before(bar);
    }

    entries() {
      this.legend.replaceChildren();
      this.reading = make("span", { class: "reading" });
      this.values = this.data.series.map((series, place) => {
        const value = make("b");
        const button = make("button", { type: "button", "aria-pressed": !this.state.hidden.includes(place) },
          make("i", { class: series.colour }), make("bdi", {}, series.name), " ", value);
        button.addEventListener("click", () => {
          const hidden = this.state.hidden.filter(each => each !== place);
          if (hidden.length === this.state.hidden.length) hidden.push(place);
          this.set({ hidden });
          button.setAttribute("aria-pressed", !hidden.includes(place));
        });
        this.legend.append(make("li", {}, button));
        return value;
      });
      this.legend.prepend(make("li", { class: "where" }, this.reading));
    }

    listen() {
      const plot = this.plot;
      plot.tabIndex = 0;
      plot.setAttribute("role", "slider");
      plot.setAttribute("aria-label", `${this.data.label}: the arrow keys read the curves`);
      const point = event => this.read(this.xAt(event.clientX - plot.getBoundingClientRect().left));
      plot.addEventListener("pointermove", point);
      plot.addEventListener("pointerdown", point);
      plot.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.read(null));
      plot.addEventListener("focus", () => this.at === null && plot.matches(":focus-visible") && this.step(0, "last"));
      plot.addEventListener("blur", () => this.read(null));
      plot.addEventListener("keydown", event => {
        const far = Math.max(1, Math.round(this.stops.length / 10));
        const step = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -far, PageUp: far }[event.key];
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        if (step) this.step(event.shiftKey ? step * far : step);
        else if (event.key === "Home") this.step(0, "first");
        else if (event.key === "End") this.step(0, "last");
        else if (event.key === "Escape") this.read(null);
        else return;
        event.preventDefault();
      });
    }

    /** Go so many values on from where the reading is, or to an end. */
    step(by, end) {
      const last = this.stops.length - 1;
      if (last < 0) return;
      const from = end === "first" ? 0 : end === "last" || this.at === null ? last : nearest(this.stops, this.at);
      this.read(this.stops[Math.min(last, Math.max(0, from + by))]);
    }

    draw() {
      const { axis, logX, logY, share, hidden } = this.state, { label, kind } = this.data.axes[axis];
      const useLogX = logX && kind !== "date";
      this.width = this.plot.clientWidth || 640;
      this.curves = this.data.series.flatMap((series, place) => {
        if (hidden.includes(place)) return [];
        const y = series.noisy ? smoothed(series.x[axis], series.y, share) : series.y;
        const all = series.x[axis].map((x, n) => ({ x, y: y[n], raw: series.y[n], low: series.low[n] ?? series.y[n],
          high: series.high[n] ?? series.y[n], label: series.labels[n] }));
        const points = all.filter(each => (!useLogX || each.x > 0) && (!logY || each.y > 0));
        return points.length ? [{ ...series, place, points, xs: points.map(each => each.x) }] : [];
      });
      const points = this.curves.flatMap(each => each.points);
      const rough = this.curves.filter(each => each.noisy && share).flatMap(each => core(each.points.map(p => p.raw)));
      const xs = bounds(points.map(each => each.x), 0, kind !== "date" && !useLogX, useLogX);
      const ys = bounds([...points.map(each => each.y), ...rough], 0.06, false, logY);
      const yTicks = (logY ? logTicks : ticks)(...ys, 6);
      const left = 14 + 7 * Math.max(3, ...yTicks.map(each => short(each).length));
      const [divide, write, divideLog] = WRITTEN[kind];
      const xMarks = (useLogX ? divideLog : divide)(...xs, Math.max(4, Math.floor((this.width - left) / 75)));
      const areCounts = kind === "number" && points.every(each => Number.isInteger(each.x));  // no half blocks or steps
      const xTicks = areCounts ? xMarks.filter(Number.isInteger) : xMarks;
      this.xs = xs;
      this.area = { left, right: this.width - RIGHT, top: TOP, bottom: HEIGHT - BOTTOM };
      this.placeX = scale(xs, [left, this.area.right], useLogX);
      this.placeY = scale(ys, [this.area.bottom, TOP], logY);
      this.useLogX = useLogX;
      this.stops = [...new Set(this.curves.flatMap(each => each.xs))].sort((a, b) => a - b);
      const svg = make("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, "aria-hidden": true });
      this.frame(svg, xTicks, write, yTicks, label);
      this.lines(svg, share);
      this.mark = make("g");
      svg.append(this.mark);
      this.plot.replaceChildren(svg);
      this.plot.setAttribute("aria-valuemin", xs[0]);
      this.plot.setAttribute("aria-valuemax", xs[1]);
      this.plot.setAttribute("aria-valuenow", this.at ?? xs[1]);
      this.read(this.at);
    }

    frame(svg, xTicks, write, yTicks, label) {
      const { left, right, top, bottom } = this.area;
      for (const tick of yTicks) {
        const y = this.placeY(tick);
        svg.append(make("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
          make("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, short(tick)));
      }
      let free = -Infinity;
      for (const tick of xTicks) {
        const x = this.placeX(tick), text = write(tick), half = 3.5 * text.length;
        svg.append(make("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom + 4 }));
        if (x - half < free || x + half > this.width) continue;
        svg.append(make("text", { x, y: bottom + 18, "text-anchor": "middle" }, text));
        free = x + half + 6;
      }
      svg.append(make("text", { class: "unit", x: right, y: HEIGHT - 6, "text-anchor": "end" }, label));
    }

    lines(svg, share) {
      const { left, right, top, bottom } = this.area, clip = `clip-${this.figure.id}`;
      svg.append(make("clipPath", { id: clip },
        make("rect", { x: left - 5, y: top - 5, width: Math.max(0, right - left + 10), height: bottom - top + 10 })));
      const group = make("g", { "clip-path": `url(#${clip})` });
      const path = (points, y) => points.map((each, n) => `${n ? "L" : "M"}${this.placeX(each.x).toFixed(1)} ${this.placeY(y(each)).toFixed(1)}`).join("");
      const floor = Math.exp(-700);
      for (const curve of this.curves) {
        const { points, style, colour } = curve;
        if (curve.noisy && share) {
          const behind = curve.low.length ? points.flatMap(each => [{ x: each.x, y: each.low }, { x: each.x, y: each.high }])
            : points.map(each => ({ x: each.x, y: each.raw }));
          group.append(make("path", { class: `raw ${colour}`, d: path(behind, each => this.state.logY ? Math.max(floor, each.y) : each.y) }));
        }
        const corners = style === "steps" ? points.flatMap((each, n) => n ? [{ x: each.x, y: points[n - 1].y }, each] : [each]) : points;
        if (style !== "dots") group.append(make("path", { class: colour, d: path(corners, each => each.y) }));
        if (style === "dots" || style === "dotted" && points.length <= 60 || points.length === 1)
          for (const each of points)
            group.append(make("circle", { class: colour, cx: this.placeX(each.x), cy: this.placeY(each.y), r: style === "dots" ? 4 : 3 }));
      }
      svg.append(group);
    }

    /** The x under a place of the picture. */
    xAt(place) {
      const { left, right } = this.area, [low, high] = this.xs;
      const part = Math.min(1, Math.max(0, (place - left) / (right - left)));
      return this.useLogX ? low * (high / low) ** part : low + (high - low) * part;
    }

    /** Show the values at x in the legend, and mark them; null: nothing. */
    read(x) {
      this.mark.replaceChildren();
      this.values.forEach(each => { each.textContent = ""; });
      this.reading.textContent = "";
      this.at = x;
      if (x === null || !this.curves.length) return;
      const kind = this.data.axes[this.state.axis].kind;
      const main = this.curves.reduce((a, b) => b.points.length > a.points.length ? b : a);
      const at = this.stops.includes(x) ? x : main.xs[nearest(main.xs, x)];
      const { top, bottom } = this.area, place = this.placeX(at);
      this.mark.append(make("line", { class: "cursor", x1: place, x2: place, y1: top, y2: bottom }));
      const said = [];
      for (const curve of this.curves) {
        const point = curve.points[nearest(curve.xs, at)];
        this.mark.append(make("circle", { class: curve.colour, cx: this.placeX(point.x), cy: this.placeY(point.y), r: 4.5 }));
        const elsewhere = point.x === at ? "" : ` at ${exact(point.x, kind)}`;
        const here = point.label ? curve.points.filter(each => each.x === point.x) : [point];
        const text = here.map(each => (each.label ? `${each.label}: ` : "") + exact(each.y)).join(", ");
        this.values[curve.place].textContent = text;  // its dot shows where; a longer text would move what is below
        said.push(`${curve.name} ${text}${elsewhere}`);
      }
      const where = `${this.data.axes[this.state.axis].label} ${exact(at, kind)}`;
      this.reading.textContent = where;
      this.plot.setAttribute("aria-valuenow", at);
      this.plot.setAttribute("aria-valuetext", `${where}: ${said.join(", ")}`);
    }
  }

  return { ticks, durationTicks, logTicks, short, shortDuration, shortDate, smoothed, nearest, bounds, exact, Chart };
})();

if (typeof module === "object") module.exports = WenloomChart;
else for (const figure of document.querySelectorAll("figure.chart")) new WenloomChart.Chart(figure);
