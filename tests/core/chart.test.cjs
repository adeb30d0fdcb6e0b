// `node --test`: the chart's functions that need no page.
const test = require("node:test");
const assert = require("node:assert/strict");
const chart = require("../../src/wenloom/core/pages/templates/chart.js");

test("the nearest of ascending places is found", () => {
  const xs = [0, 1, 4, 9];
  for (const [x, place] of [[-5, 0], [0.4, 0], [0.6, 1], [2.4, 1], [2.6, 2], [100, 3]])
    assert.equal(chart.nearest(xs, x), place);
  assert.equal(chart.nearest([7], 3), 0);
});

test("the bounds of an axis hold every value, and of a logarithmic one every value above 0", () => {
  for (const values of [[1, 2, 3], [-4, 5], [2, 2], [1e-9, 1e9], [0, 0], []]) {
    const [low, high] = chart.bounds(values, 0.06, false, false);
    assert.ok(low < high && values.every(each => low <= each && each <= high));
    const [above, most] = chart.bounds(values, 0.06, false, true);
    assert.ok(above > 0 && above < most && values.every(each => each <= 0 || above <= each * 1.000001));
  }
  assert.equal(chart.bounds([1e6, 2e6], 0, true, false)[0], 0);
});

test("read-out values have their unit's form", () => {
  assert.equal(chart.exact(1234567), "1,234,567");
  assert.equal(chart.exact(2.371849), "2.3718");
  assert.equal(chart.exact(90, "duration"), "1.5 min");
  assert.equal(chart.exact(2023.5, "date"), "2023-07");
});
