// Three figures that can be dragged: the grid of τ, the ramp, the sets of PMPO. Without scripts the picture stays as it is.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 560, LEFT = 64, RIGHT = 20;

function element(name, attributes = {}, text = "", namespace = SVG) {
  const node = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
}

const html = (name, attributes, text) => element(name, attributes, text, "http://www.w3.org/1999/xhtml");

// Replaces the picture of a figure by controls and a drawing that `redraw(values, svg)` fills; it returns a sentence.
function widget(figure, height, sliders, redraw) {
  const controls = html("div", { class: "controls" });
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: "img", "font-size": 12 });
  const readout = html("p", { class: "readout", "aria-live": "polite" });
  const update = () => {
    const values = Object.fromEntries(sliders.map(({ name, input }) => [name, Number(input.value)]));
    svg.replaceChildren();
    const sentence = redraw(values, svg);
    for (const { input, output, format } of sliders) {
      output.textContent = format(Number(input.value), values);
      input.setAttribute("aria-valuetext", output.textContent);
    }
    svg.setAttribute("aria-label", sentence);
    readout.textContent = sentence;
  };
  for (const slider of sliders) {
    slider.input = html("input", { type: "range", min: slider.min, max: slider.max, step: slider.step ?? 1 });
    slider.input.value = slider.value;
    slider.output = html("output");
    slider.input.addEventListener("input", update);
    const label = html("label", {}, slider.label);
    label.append(slider.input, slider.output);
    controls.append(label);
  }
  const picture = html("div", { class: "picture", tabindex: 0, role: "group", "aria-label": "Figure" });
  picture.append(svg);
  figure.querySelector(".picture").replaceWith(controls, picture, readout);
  figure.querySelector("figcaption").hidden = true; // it describes the static picture
  update();
}

const across = (share) => LEFT + share * (WIDTH - LEFT - RIGHT);
const text = (svg, x, y, content, anchor = "middle") =>
  svg.append(element("text", { x, y, "text-anchor": anchor, fill: "currentColor" }, content));
const line = (svg, x1, y1, x2, y2, attributes = {}) =>
  svg.append(element("line", { x1, y1, x2, y2, stroke: "currentColor", ...attributes }));
const dot = (svg, cx, cy, attributes) => svg.append(element("circle", { cx, cy, r: 4, fill: "var(--figure-blue)", ...attributes }));
const polyline = (svg, points, attributes) =>
  svg.append(element("polyline", { points: points.map((point) => point.join(",")).join(" "), fill: "none", "stroke-width": 2, ...attributes }));

// What the figures compute, without drawing; docs/tests/test_draggable.py compares it with the reference.
const fraction = (numerator, denominator) => {
  let a = numerator, b = denominator;
  while (b) [a, b] = [b, a % b];
  return denominator / a === 1 ? `${numerator / a}` : `${numerator / a}/${denominator / a}`;
};

// Labels [τ, d] of the student at level `at` of `levels`, and of the two calls of its teacher.
const labels = (at, levels) => ({
  student: [fraction(at, levels), fraction(1, levels)],
  teacher: [0, 1].map((half) => [fraction(2 * at + half, 2 * levels), fraction(1, 2 * levels)]),
});

const rampWeight = (tau) => 0.9 * tau + 0.1;

// Variance of Gaussian data with standard deviation `spread`, given its corruption at level τ.
const leastLoss = (spread, tau) =>
  (spread ** 2 * (1 - tau) ** 2) / ((1 - tau) ** 2 + tau ** 2 * spread ** 2);

const REWARD = [0, 0, 1, 0, 0, 0, -1, 0, 0, 2], VALUE = [0.6, 1.1, 0.2, 0.4, 0.9, 0.1, 1.2, 0.8, 1.5, 0.4, 0.3];

function returns(lambda, gamma = 0.997) {
  const result = new Array(REWARD.length);
  let following = VALUE[REWARD.length];
  for (let t = REWARD.length - 1; t >= 0; t--)
    result[t] = following = REWARD[t] + gamma * ((1 - lambda) * VALUE[t + 1] + lambda * following);
  return result;
}

// Factor of ln π of every state.
function factors(advantage, alpha) {
  const negative = advantage.filter((value) => value < 0).length, positive = advantage.length - negative;
  return advantage.map((value) => (value < 0 ? (1 - alpha) / negative : -alpha / positive));
}

// Eq. 4 and 7: levels of a step size, and where the teacher is called.
function grid(figure) {
  const redraw = ({ power, exponent, index }, svg) => {
    const steps = Math.min(exponent, power), levels = 2 ** steps, kMax = 2 ** power;
    const at = Math.min(index, levels - 1), half = steps < power, height = 26 * (power + 2) + 20;
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    svg.setAttribute("height", height);
    for (let row = 0; row <= power; row++) {
      const y = 26 + row * 26, count = 2 ** row, chosen = row === steps;
      line(svg, across(0), y, across(1), y, { stroke: "var(--figure-faint)", "stroke-width": chosen ? 2 : 1 });
      text(svg, LEFT - 10, y + 4, `d = ${fraction(1, count)}`, "end");
      for (let i = 0; i < count; i++)
        dot(svg, across(i / count), y, { r: count > 32 ? 2.5 : 4, "fill-opacity": chosen ? 1 : 0.35 });
    }
    const y = 26 + steps * 26, tau = at / levels, end = (at + 1) / levels;
    dot(svg, across(tau), y, { r: 8, fill: "none", stroke: "var(--figure-orange)", "stroke-width": 3 });
    line(svg, across(tau), y - 12, across(end), y - 12, { stroke: "var(--figure-orange)", "stroke-width": 3 });
    if (half) {
      const below = y + 26;
      for (const start of [tau, tau + 0.5 / levels]) {
        dot(svg, across(start), below, { r: 8, fill: "none", stroke: "var(--figure-green)", "stroke-width": 3 });
        line(svg, across(start), below + 12, across(start + 0.5 / levels), below + 12,
          { stroke: "var(--figure-green)", "stroke-width": 3, "stroke-dasharray": "6 3" });
      }
    }
    text(svg, across(0), 26 + (power + 1) * 26 + 8, "τ = 0, noise");
    text(svg, across(1), 26 + (power + 1) * 26 + 8, "τ = 1, data", "end");
    const called = labels(at, levels), pair = (label) => `(${label.join(", ")})`;
    const student = `K_max = ${kMax}: the student at (τ, d) = ${pair(called.student)}`;
    if (!half) return `${student} is at d_min and learns from the data; it has no half step.`;
    return `${student} learns from the teacher at ${called.teacher.map(pair).join(" and ")}.`;
  };
  widget(figure, 240, [
    { name: "power", label: "K_max", min: 1, max: 6, value: 3, format: (value) => `${2 ** value}` },
    { name: "exponent", label: "step size d", min: 0, max: 6, value: 1, format: (value, { power }) => fraction(1, 2 ** Math.min(value, power)) },
    { name: "index", label: "level τ", min: 0, max: 63, value: 1,
      format: (value, { power, exponent }) => { const n = 2 ** Math.min(exponent, power); return fraction(Math.min(value, n - 1), n); } },
  ], redraw);
}

// Eq. 8: least possible flow loss of Gaussian data of a given spread, and what is left of it under the ramp.
function ramp(figure) {
  const height = 240, base = 200, top = 20;
  const redraw = ({ spread, tau }, svg) => {
    const level = tau / 64, largest = leastLoss(spread / 10, 0);
    const loss = (t) => leastLoss(spread / 10, t), weight = rampWeight;
    const y = (share) => base - share * (base - top);
    const points = (f) => Array.from({ length: 65 }, (_, i) => [across(i / 64), y(f(i / 64))]);
    line(svg, across(0), base, across(1), base);
    line(svg, across(0), base, across(0), top);
    for (const share of [0, 0.5, 1]) { text(svg, LEFT - 8, y(share) + 4, `${share}`, "end"); text(svg, across(share), base + 18, `${share}`); }
    text(svg, across(0.5), base + 34, "signal level τ");
    polyline(svg, points(weight), { stroke: "var(--figure-blue)" });
    polyline(svg, points((t) => loss(t) / largest), { stroke: "var(--figure-orange)", "stroke-dasharray": "6 3" });
    polyline(svg, points((t) => weight(t) * loss(t) / largest), { stroke: "var(--figure-green)", "stroke-dasharray": "2 3" });
    text(svg, across(0.97), y(weight(0.97)) + 34, "weight w", "end");
    text(svg, across(0.05), y(loss(0.05) / largest) - 6, "loss", "start");
    text(svg, across(0.35), y((weight(0.35) * loss(0.35)) / largest) + 18, "w · loss");
    line(svg, across(level), base, across(level), top, { stroke: "var(--figure-faint)" });
    return `At τ = ${level.toFixed(2)} the weight is ${weight(level).toFixed(2)}. For Gaussian data with standard deviation ` +
      `${(spread / 10).toFixed(1)} the least possible flow loss is ${loss(level).toFixed(3)}, and ${(weight(level) * loss(level)).toFixed(3)} ` +
      "after weighting. The curves of the loss are relative to its value at τ = 0.";
  };
  widget(figure, height, [
    { name: "tau", label: "level τ", min: 0, max: 64, value: 32, format: (value) => (value / 64).toFixed(2) },
    { name: "spread", label: "spread of the data", min: 2, max: 20, value: 10, format: (value) => (value / 10).toFixed(1) },
  ], redraw);
}

// Eq. 10 and 11: λ-returns of one trajectory, and the sets that they sort its states into.
function sets(figure) {
  const height = 250, middle = 110, unit = 38;
  const redraw = ({ lambda, alpha }, svg) => {
    const advantage = returns(lambda / 100).map((value, t) => value - VALUE[t]), share = alpha / 100;
    const factor = factors(advantage, share), negative = advantage.filter((value) => value < 0).length;
    const positive = advantage.length - negative, wide = (WIDTH - LEFT - RIGHT) / advantage.length;
    line(svg, LEFT, middle, WIDTH - RIGHT, middle);
    text(svg, LEFT - 8, middle + 4, "A = 0", "end");
    advantage.forEach((value, t) => {
      const below = value < 0, x = LEFT + t * wide + 5, size = Math.min(Math.abs(value) * unit, 95);
      svg.append(element("rect", { x, y: below ? middle : middle - size, width: wide - 10, height: size,
        fill: below ? "var(--figure-orange)" : "var(--figure-blue)", stroke: "currentColor", "stroke-dasharray": below ? "4 2" : "none" }));
      text(svg, x + (wide - 10) / 2, 214, below ? "D⁻" : "D⁺");
      text(svg, x + (wide - 10) / 2, 232, factor[t].toFixed(2));
    });
    text(svg, LEFT - 8, 214, "set", "end");
    text(svg, LEFT - 8, 232, "factor", "end");
    return `λ = ${(lambda / 100).toFixed(2)}, α = ${share.toFixed(2)}: ${positive} states in D⁺ and ${negative} in D⁻. ` +
      "The bars are advantages; the last row is the factor of ln π(a|s), the same for all states of a set.";
  };
  widget(figure, height, [
    { name: "lambda", label: "λ", min: 0, max: 100, value: 95, format: (value) => (value / 100).toFixed(2) },
    { name: "alpha", label: "α", min: 0, max: 100, value: 50, format: (value) => (value / 100).toFixed(2) },
  ], redraw);
}

const WIDGETS = { grid, ramp, sets };
for (const figure of document.querySelectorAll("figure[data-widget]")) WIDGETS[figure.dataset.widget](figure);
