"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const text = document.querySelector(".text"), said = document.getElementById("said");
  const units = [...text.querySelectorAll("[data-u]")];
  let method = data.lead, at = -1;
  const shown = token => `“${token.replaceAll("\n", "↵")}”`;
  const number = value => value === null ? "none" : Math.abs(value) >= 1e-3 || value === 0 ? String(Number(value.toPrecision(3))) : value.toExponential(1);

  // Heat: the strongest score has the full colour.
  const paint = () => {
    const { scores, name, note } = data.methods[method];
    const most = Math.max(...scores.map(Math.abs)) || 1;
    units.forEach((unit, n) => {
      unit.style.setProperty("--w", (Math.abs(scores[n]) / most).toFixed(3));
      unit.classList.toggle("up", scores[n] >= 0);
      unit.classList.toggle("down", scores[n] < 0);
      unit.title = number(scores[n]);
    });
    document.getElementById("note").textContent = `${name}: ${note}`;
    if (at >= 0) read(at);
  };
  document.getElementById("method").addEventListener("change", event => { method = Number(event.target.value); paint(); });

  /** Where a unit stands among the tokens that blocks and heads have read; undefined of a source or of another answer. */
  const placeOf = n => {
    const place = data.units[n][1] - data.nSource;
    return place >= 0 && place < data.tokens.length ? place : undefined;
  };
  const read = n => {
    units[at]?.classList.remove("here");
    at = n;
    units[n].classList.add("here");
    const all = data.methods.map(each => `${each.name} ${number(each.scores[n])}`).join(", ");
    said.textContent = `${shown(units[n].textContent)}: ${all}; ${n + 1} of ${units.length}`;
    text.setAttribute("aria-valuenow", n + 1);
    text.setAttribute("aria-valuetext", said.textContent);
    const place = placeOf(n);
    if (place !== undefined) { showBlocks(place); query = place; showCell(); }
  };
  text.tabIndex = 0;
  for (const [name, value] of Object.entries({ role: "slider", "aria-label": "The text: the arrow keys go through its tokens", "aria-valuemin": 1, "aria-valuemax": units.length })) text.setAttribute(name, value);
  const point = event => { const unit = event.target.closest("[data-u]"); if (unit) read(Number(unit.dataset.u)); };
  text.addEventListener("pointerover", point);
  text.addEventListener("click", point);
  text.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const forward = getComputedStyle(text).direction === "rtl" ? -1 : 1;
    const step = { ArrowLeft: -forward, ArrowRight: forward, ArrowUp: -10, ArrowDown: 10 }[event.key];
    if (step) read(Math.min(units.length - 1, Math.max(0, at < 0 ? 0 : at + step)));
    else if (event.key === "Home") read(0);
    else if (event.key === "End") read(units.length - 1);
    else return;
    event.preventDefault();
  });

  // Blocks: what each would answer after the chosen token.
  const lens = data.lens, make = (tag, words, kind = "") => {
    const made = document.createElement(tag);
    made.textContent = words;
    made.className = kind;
    return made;
  };
  const labelled = (label, words) => {
    const made = make("td", words, "n");
    made.dataset.label = label;
    return made;
  };
  function showBlocks(place) {
    if (!lens) return;
    const wanted = lens.wanted[place], rows = [];
    document.getElementById("where").textContent = `at ${shown(data.tokens[place])}, token ${place + 1}` + (wanted === null ? "" : `; what stands there: ${shown(lens.pieces[wanted])}`);
    for (let block = lens.rank.length - 1; block >= 0; block--) {
      const row = document.createElement("tr"), best = document.createElement("td");
      lens.top[block][place].forEach((piece, n) => {
        const cell = make("span", "", "soft");
        const word = make("bdi", shown(lens.pieces[piece]));
        if (piece === wanted) word.className = "wanted";
        cell.append(word, ` ${(100 * lens.top_probabilities[block][place][n]).toPrecision(2)} %`);
        best.append(cell, " ");
      });
      const probability = lens.probability[block][place];
      row.append(make("td", `${block}`), best, labelled("rank", lens.rank[block][place] || ""),
        labelled("probability", probability === null ? "" : `${number(100 * probability)} %`), labelled("entropy", number(lens.entropy[block][place])));
      rows.push(row);
    }
    document.getElementById("blocks").replaceChildren(...rows);
  }

  // Heads: small maps, one of them large.
  const { layers, heads, tokens: T, causal, levels, packed } = data.attention;
  const size = causal ? T * (T + 1) / 2 : T * T, maps = document.getElementById("maps"), large = document.getElementById("large");
  let weights = null, chosen = 0, query = data.position, key = 0;
  const weight = (head, from, to) => causal && to > from ? 0 : weights[head * size + (causal ? from * (from + 1) / 2 + to : from * T + to)] / levels;
  const draw = (canvas, head) => {
    canvas.width = canvas.height = T;
    const context = canvas.getContext("2d"), image = context.createImageData(T, T);
    for (let from = 0; from < T; from++) for (let to = 0; to < T; to++) {
      const place = 4 * (from * T + to);
      image.data.set([47, 127, 214, Math.round(255 * Math.sqrt(weight(head, from, to)))], place);
    }
    context.putImageData(image, 0, 0);
  };
  function showCell() {
    if (!weights) return;
    const row = Array.from({ length: T }, (_, to) => weight(chosen, query, to));
    document.getElementById("cell").textContent = `from ${shown(data.tokens[query])} (${query + 1}) to ${shown(data.tokens[key])} (${key + 1}): ${number(row[key])}`;
    const most = Math.max(...row) || 1;
    document.getElementById("seen").replaceChildren(...data.tokens.map((token, to) => {
      const made = make("span", token, "heat");
      made.style.setProperty("--w", (row[to] / most).toFixed(3));
      made.title = number(row[to]);
      if (to === query) made.classList.add("here");
      return made;
    }));
  }
  const choose = head => {
    const all = [...maps.children];
    all[chosen].classList.remove("here");
    all[chosen].tabIndex = -1;
    chosen = head;
    all[head].classList.add("here");
    all[head].tabIndex = 0;
    const layer = Math.floor(head / heads), kinds = Object.entries(data.headScores || {});
    document.getElementById("which").textContent = `Block ${layer}, head ${head % heads}`;
    document.getElementById("kinds").textContent = kinds.map(([kind, scores]) => `${kind.replace("_", " ")} ${number(scores[layer][head % heads])}`).join(", ");
    draw(large, head);
    showCell();
  };
  const unpack = async () => {
    const bytes = Uint8Array.from(atob(packed), char => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    weights = new Uint8Array(await new Response(stream).arrayBuffer());
    maps.style.gridTemplateColumns = `repeat(${heads}, minmax(22px, 4rem))`;
    for (let head = 0; head < layers * heads; head++) {
      const canvas = document.createElement("canvas");
      canvas.title = `block ${Math.floor(head / heads)}, head ${head % heads}`;
      canvas.setAttribute("role", "button");
      canvas.setAttribute("aria-label", canvas.title);
      canvas.tabIndex = -1;
      draw(canvas, head);
      canvas.addEventListener("click", () => choose(head));
      maps.append(canvas);
    }
    maps.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
      if (!step || chosen + step < 0 || chosen + step >= layers * heads) return;
      choose(chosen + step);
      maps.children[chosen].focus();
      event.preventDefault();
    });
    choose((layers - 1) * heads);
  };
  large.addEventListener("pointermove", event => {
    const box = large.getBoundingClientRect(), within = value => Math.min(T - 1, Math.max(0, Math.floor(value * T)));
    query = within((event.clientY - box.top) / box.height);
    key = within((event.clientX - box.left) / box.width);
    showCell();
  });
  large.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    query = Math.min(T - 1, Math.max(0, query + step[0]));
    key = Math.min(T - 1, Math.max(0, key + step[1]));
    showCell();
    event.preventDefault();
  });
  if (packed) unpack();
  else document.getElementById("heads").hidden = true;

  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const whole = { ...data.explanation, [data.lensName]: data.lens, attention: packed && weights ? { layers, heads, tokens: data.tokens, causal, weights: Array.from({ length: layers * heads }, (_, head) => Array.from(weights.subarray(head * size, (head + 1) * size), value => Number((value / levels).toFixed(4)))) } : null };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(whole)], { type: "application/json" }));
    link.download = "explanation.json";
    link.click();
  });
  paint();
  showBlocks(data.position);
}
