"""What makes the table of queries work: plain JavaScript, which the page carries inside itself.

All text is put in as text, never as markup. Which comparison, measure, search, order and queries
are open is in the address behind "#", so that a link or a reload shows the same.
"""

SCRIPT = r"""
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = 100;
const TIE = 1e-9;
const NONE = "\u2013";
const MINUS = "\u2212";
const find = (id) => document.getElementById(id);
const picks = (name) => document.querySelectorAll(`select[data-pick="${name}"]`);
const count = (number) => number.toLocaleString("en");
const collator = new Intl.Collator("en", {numeric: true});
const places = new Map(data.queries.map((id, at) => [id, at]));
const texts = data.queries.map((id, at) => `${id}\n${data.query_texts[at] ?? ""}`.toLowerCase());
const state = {
  pair: 0, measure: 0, search: "", sort: "change", open: new Set(), shown: STEP, order: [],
};

const make = (tag, attributes, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const user = (tag, look, text) => make(tag, {class: look, dir: "auto"}, text);

const pair = () => data.pairs[state.pair];
const value = (system, query) => data.values[system][state.measure][query];
const difference = (query) => {
  const [a, b] = pair().map((system) => value(system, query));
  if (a === null || b === null) return null;
  return Math.abs(a - b) <= TIE ? 0 : a - b;
};
const plain = (number) => number === null ? NONE : number.toFixed(4);
const signed = (number) => {
  if (number === null) return NONE;
  if (Math.abs(number) < 5e-5) return "0.0000";
  return (number > 0 ? "+" : MINUS) + Math.abs(number).toFixed(4);
};

// ---- the order of queries

const keys = () => {
  const [kind, system] = state.sort.split(" ");
  if (kind === "query" || kind === "ids") return null;
  if (kind === "change") {
    return (query) => difference(query) === null ? null : Math.abs(difference(query));
  }
  if (kind === "gain") return difference;
  if (kind === "loss") return (query) => negative(difference(query));
  const sign = kind === "low" ? negative : (number) => number;
  return (query) => sign(value(Number(system), query));
};
const negative = (number) => number === null ? null : -number;

const sorted = (queries) => {
  const key = keys();
  if (key === null) {
    const sign = state.sort === "ids" ? -1 : 1;
    const ids = data.queries;
    return queries.sort((one, other) => sign * collator.compare(ids[one], ids[other]));
  }
  const by = new Map(queries.map((query) => [query, key(query) ?? -Infinity]));
  return queries.sort((one, other) => {
    const [first, second] = [by.get(one), by.get(other)];
    return first === second ? one - other : first < second ? 1 : -1;
  });
};

const ordered = () => {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (query) => words.every((word) => texts[query].includes(word));
  state.order = sorted([...data.queries.keys()].filter(fits));
};

// ---- rows

const grade = (number) => {
  const [look, sign, said] =
    number === null ? ["unknown", "?", "not judged"]
    : number > 0 ? ["good", `✓ ${number}`, `relevant, grade ${number}`]
    : ["bad", `✗ ${number}`, `judged not relevant, grade ${number}`];
  return make("span", {class: `grade ${look}`, role: "img", "aria-label": said, title: said}, sign);
};

const ranking = (system, other, query) => {
  const rows = data.tops[system][query];
  const heading = make("h4", {}, user("bdi", "", data.systems[system]),
    make("span", {class: "dim"}, ` ${plain(value(system, query))}`));
  if (rows === null) {
    return make("section", {}, heading, make("p", {class: "dim"}, "There is no list."));
  }
  const there = other === null ? null : data.tops[other][query];
  const ranks = new Map((there ?? []).map(([passage], at) => [passage, at + 1]));
  const hits = rows.map(([passage, score, given], at) => {
    const elsewhere = there === null ? ""
      : ranks.has(passage) ? ` \u00b7 rank ${ranks.get(passage)} in the other`
      : ` \u00b7 not in the other's first ${there.length}`;
    const item = make("li", {},
      make("span", {class: "rank"}, String(at + 1)), grade(given),
      make("span", {class: "id"}, make("bdi", {}, data.passages[passage])),
      make("span", {class: "dim"}, `${score ?? NONE}${elsewhere}`));
    const text = data.passage_texts[passage];
    if (text !== null) item.append(user("p", "", text));
    return item;
  });
  return make("section", {}, heading, make("ol", {}, ...hits));
};

const rankings = (query, width) => {
  const [a, b] = pair() ?? [0, null];
  const sides = make("div", {class: "sides"}, ranking(a, b, query));
  if (b !== null) sides.append(ranking(b, a, query));
  return make("tr", {class: "detail", id: `top${query}`},
    make("td", {colspan: width}, sides));
};

const row = (query) => {
  const open = state.open.has(query);
  const button = make("button", {type: "button", "aria-expanded": open, class: "id"},
    make("bdi", {}, data.queries[query]));
  if (open) button.setAttribute("aria-controls", `top${query}`);
  const head = make("th", {scope: "row"}, button);
  const text = data.query_texts[query];
  if (text !== null) head.append(" ", user("span", "text", text));
  const line = make("tr", {class: "query", "data-query": query}, head);
  data.systems.forEach((_, system) => {
    line.append(make("td", {class: look(system)}, plain(value(system, query))));
  });
  if (pair()) {
    const change = difference(query);
    const sign = change > 0 ? "up" : change < 0 ? "down" : "";
    line.append(make("td", {class: `change ${sign}`}, signed(change)));
  }
  return line;
};
const look = (system) => !pair() || pair().includes(system) ? "" : "other";

const toggle = (line) => {
  const query = Number(line.dataset.query);
  const button = line.querySelector("button");
  if (state.open.delete(query)) {
    line.nextElementSibling.remove();
    button.removeAttribute("aria-controls");
  } else {
    state.open.add(query);
    line.after(rankings(query, line.cells.length));
    button.setAttribute("aria-controls", `top${query}`);
  }
  button.setAttribute("aria-expanded", state.open.has(query));
  remember();
};

// ---- the table

const CHANGES = ["change", "gain", "loss"];
const next = (column) => {
  if (column === "query") return state.sort === "query" ? "ids" : "query";
  if (column === "change") return CHANGES[(CHANGES.indexOf(state.sort) + 1) % CHANGES.length];
  return state.sort === `high ${column}` ? `low ${column}` : `high ${column}`;
};
const ARROWS = {
  query: ["ascending", "↑"], ids: ["descending", "↓"], high: ["descending", "↓"],
  low: ["ascending", "↑"], change: ["other", "↕"], gain: ["descending", "↓"],
  loss: ["ascending", "↑"],
};
const header = (column, name, style) => {
  const [kind, system] = state.sort.split(" ");
  const own = kind === "ids" ? "query" : kind === "gain" || kind === "loss" ? "change"
    : system ?? kind;
  const button = make("button", {type: "button", "data-column": column}, user("bdi", "", name));
  const cell = make("th", {scope: "col", class: style}, button);
  if (own === column) {
    cell.setAttribute("aria-sort", ARROWS[kind][0]);
    button.append(make("span", {"aria-hidden": true}, ` ${ARROWS[kind][1]}`));
  }
  if (column === "change") button.title = "by size, largest gains first, largest losses first";
  return cell;
};

const draw = () => {
  ordered();
  const heads = [header("query", "Query", ""),
    ...data.systems.map((name, system) => header(String(system), name, look(system)))];
  if (pair()) heads.push(header("change", "Difference", "change"));
  const focused = document.activeElement?.dataset?.column;
  find("heads").replaceChildren(...heads);
  find("heads").closest("table").classList.toggle("many", data.systems.length > 6);
  if (focused) find("heads").querySelector(`[data-column="${focused}"]`).focus();
  find("rows").replaceChildren();
  more(0);
  for (const plot of document.querySelectorAll(".plot")) {
    plot.hidden = Number(plot.dataset.pair) !== state.pair
      || Number(plot.dataset.measure) !== state.measure;
  }
  find("pointed")?.setAttribute("hidden", "");
  for (const name of ["pair", "measure"]) {
    for (const select of picks(name)) select.value = state[name];
  }
};

const more = (from) => {
  const width = data.systems.length + (pair() ? 2 : 1);
  const lines = state.order.slice(from, state.shown).flatMap((query) =>
    state.open.has(query) ? [row(query), rankings(query, width)] : [row(query)]);
  find("rows").append(...lines);
  const [all, here] = [data.queries.length, state.order.length];
  const rest = here - Math.min(here, state.shown);
  find("found").textContent = here === all ? `${count(all)} queries`
    : `${count(here)} of ${count(all)} queries`;
  find("more").hidden = rest === 0;
  find("more").textContent = `Show ${count(Math.min(rest, STEP))} more of ${count(rest)}`;
};

const reveal = (query) => {
  state.open.add(query);
  ordered();
  if (!state.order.includes(query)) {
    state.search = find("search").value = "";
    ordered();
  }
  state.shown = Math.max(state.shown, state.order.indexOf(query) + 1);
  draw();
  find("rows").querySelector(`[data-query="${query}"]`).scrollIntoView({block: "start"});
};

// ---- the address

let waiting = 0;
const remember = () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const words = new URLSearchParams();
    if (state.search) words.set("q", state.search);
    if (state.pair) {
      words.set("system", data.systems[pair()[0]]);
      words.set("baseline", data.systems[pair()[1]]);
    }
    if (state.measure) words.set("measure", data.measures[state.measure]);
    if (state.sort !== first()) words.set("sort", state.sort);
    for (const query of state.open) words.append("open", data.queries[query]);
    try {
      history.replaceState(null, "", `#${words}`);
    } catch {
      // a page inside another may not change its address: it works without
    }
  }, 300);
};
const first = () => pair() ? "change" : "query";

const recall = () => {
  const words = new URLSearchParams(location.hash.slice(1));
  const [system, baseline] = ["system", "baseline"].map((name) => words.get(name));
  const at = data.pairs.findIndex(([a, b]) =>
    data.systems[a] === system && (baseline === null || data.systems[b] === baseline));
  state.pair = Math.max(0, at);
  state.measure = Math.max(0, data.measures.indexOf(words.get("measure")));
  state.search = find("search").value = words.get("q") ?? "";
  const [kind, place] = (words.get("sort") ?? "").split(" ");
  const known = kind === "query" || kind === "ids" || (pair() && CHANGES.includes(kind))
    || ((kind === "high" || kind === "low") && Number(place) in data.systems);
  state.sort = known ? words.get("sort") : first();
  state.shown = STEP;
  const open = words.getAll("open").filter((id) => places.has(id)).map((id) => places.get(id));
  state.open = new Set(open);
  if (open.length) reveal(open[0]);
  else draw();
};

// ---- what a reader does

const again = () => {
  state.shown = STEP;
  draw();
  remember();
};
find("search").addEventListener("input", (event) => {
  state.search = event.target.value;
  again();
});
for (const name of ["pair", "measure"]) {
  for (const select of picks(name)) {
    select.addEventListener("change", () => {
      state[name] = Number(select.value);
      again();
    });
  }
}
find("heads").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  state.sort = next(button.dataset.column);
  again();
});
find("rows").addEventListener("click", (event) => {
  const line = event.target.closest("tr.query");
  const selected = String(getSelection()) && !event.target.closest("button");
  if (line && !selected) toggle(line);
});
find("more").addEventListener("click", () => {
  const from = state.shown;
  state.shown += STEP;
  more(from);
  find("rows").querySelector(`[data-query="${state.order[from]}"] button`).focus();
});

// ---- the plot of differences: which query a bar is

let bars = {of: "", queries: []};
const barred = () => {
  const of = `${state.pair} ${state.measure}`;
  if (bars.of !== of) {
    const by = new Map([...data.queries.keys()].map((query) => [query, difference(query)]));
    const known = [...by.keys()].filter((query) => by.get(query) !== null);
    bars = {of, queries: known.sort((one, other) => by.get(other) - by.get(one) || one - other)};
  }
  return bars.queries;
};
const barAt = (drawing, event) => {
  const box = drawing.getBoundingClientRect();
  const x = (event.clientX - box.left) * drawing.viewBox.baseVal.width / box.width;
  const [start, end] = [Number(drawing.dataset.start), Number(drawing.dataset.end)];
  const queries = barred();
  return queries[Math.floor((x - start) / (end - start) * queries.length)];
};
for (const plot of document.querySelectorAll(".plot")) {
  const drawing = plot.querySelector("svg");
  drawing.addEventListener("pointermove", (event) => {
    const query = barAt(drawing, event);
    const pointed = find("pointed");
    pointed.hidden = query === undefined;
    if (query === undefined) return;
    pointed.replaceChildren(make("b", {}, signed(difference(query))), " ",
      user("span", "id", data.queries[query]), " ",
      user("span", "", data.query_texts[query] ?? ""));
  });
  drawing.addEventListener("click", (event) => {
    const query = barAt(drawing, event);
    if (query === undefined) return;
    reveal(query);
    remember();
  });
}

for (const hidden of document.querySelectorAll(".live")) hidden.hidden = false;
addEventListener("hashchange", recall);
recall();
})();
"""
