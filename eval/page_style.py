"""How a page of curves looks, on light ground and on dark.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart,
darkened on light ground and lightened on dark until lines stand out at 3 : 1. Dashes and the
shapes of marks say the same once more.
"""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f6f7f9; --ink: #1b1f24; --dim: #57606a;
  --grid: #dfe3e8; --c0: #0072b2; --c1: #c04a00; --c2: #00805c; --c3: #a8498a; --c4: #9a6700;
  --c5: #4a5a6a; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #14171b; --card: #1d2127;
  --ink: #e6e9ed; --dim: #9ba4ae; --grid: #333a43; --c0: #56b4e9; --c1: #ff8b4d; --c2: #33c29a;
  --c3: #e391c3; --c4: #e6b422; --c5: #a9b7c6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 56px; max-width: 1240px; background: var(--ground);
  color: var(--ink); font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto,
  "Liberation Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 32px 0 12px; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 0; }
.tiles div { background: var(--card); border-radius: 8px; padding: 10px 16px; display: flex;
  flex-direction: column; }
.tiles dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles dt { color: var(--dim); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr));
  gap: 16px; }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: 12px 14px 8px;
  display: flex; flex-direction: column; }
figure > svg { width: 100%; height: auto; margin-top: auto; }
figcaption { font-weight: 600; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 8px;
  padding: 0; font-size: 13px; color: var(--dim); font-variant-numeric: tabular-nums; }
.legend li { display: flex; align-items: center; gap: 6px; }
.swatch { width: 34px; height: 12px; flex: none; }
svg text { fill: var(--dim); font-size: 12px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--dim); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.faint { stroke-width: 1; opacity: .38; }
.swatch .faint { opacity: .7; }
.mark { stroke: none; }
.best { fill: none; stroke-width: 1.6; }
.line0 { stroke: var(--c0); } .mark.line0 { fill: var(--c0); } .fill0 { background: var(--c0); }
.line1 { stroke: var(--c1); } .mark.line1 { fill: var(--c1); } .fill1 { background: var(--c1); }
.line2 { stroke: var(--c2); } .mark.line2 { fill: var(--c2); } .fill2 { background: var(--c2); }
.line3 { stroke: var(--c3); } .mark.line3 { fill: var(--c3); } .fill3 { background: var(--c3); }
.line4 { stroke: var(--c4); } .mark.line4 { fill: var(--c4); } .fill4 { background: var(--c4); }
.line5 { stroke: var(--c5); } .mark.line5 { fill: var(--c5); } .fill5 { background: var(--c5); }
.dash1 { stroke-dasharray: 7 5; }
.dash2 { stroke-dasharray: 2 5; }
.dash3 { stroke-dasharray: 9 4 2 4; }
.dash4 { stroke-dasharray: 14 4; }
.dash5 { stroke-dasharray: 4 4; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--dim); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  margin-top: 8px; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--grid); }
th { font-weight: 500; color: var(--dim); }
.bar { display: flex; height: 22px; gap: 2px; border-radius: 6px; overflow: hidden;
  margin-bottom: 8px; }
.bar span { min-width: 2px; }
.legend li > span { width: 12px; height: 12px; border-radius: 3px; flex: none; }
"""

PAGE_STYLE = """
:root { --good: #00664a; --good-ground: #d8f0e6; --bad: #9a3412; --bad-ground: #fbe4d8;
  --unknown-ground: #e6e9ed; --focus: #0050b3; }
@media screen and (prefers-color-scheme: dark) { :root { --good: #6fe0bd; --good-ground: #12382c;
  --bad: #ffb08a; --bad-ground: #472413; --unknown-ground: #333a43; --focus: #8cc8ff; } }
h3 { font-size: 15px; margin: 14px 0 4px; overflow-wrap: anywhere; }
h4 { font-size: 14px; margin: 0 0 6px; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.about, .over, .dim { color: var(--dim); }
.about { margin: 0 0 8px; max-width: 96ch; }
.over { margin: 2px 0; font-size: 13px; overflow-wrap: anywhere; }
.notes { margin: 0; padding-left: 20px; max-width: 90ch; }
.notes li { overflow-wrap: anywhere; }
.charts { align-items: start; }
figcaption, .legend li { overflow-wrap: anywhere; }
svg { overflow: visible; }
svg .rise { fill: var(--c0); } svg .fall { fill: var(--c1); } .count { font-weight: 600; }
svg .text0 { fill: var(--c0); } svg .text1 { fill: var(--c1); } svg .text2 { fill: var(--c2); }
svg .text3 { fill: var(--c3); } svg .text4 { fill: var(--c4); } svg .text5 { fill: var(--c5); }
.plot svg { display: block; width: 100%; height: auto; cursor: pointer; }
#pointed { min-height: 20px; color: var(--ink); }
thead th { color: var(--ink); font-weight: 600; vertical-align: bottom;
  border-bottom: 1px solid var(--dim); }
tbody th { color: var(--ink); text-align: left; }
thead th:first-child { text-align: left; }
.name { min-width: 170px; max-width: 340px; overflow-wrap: anywhere; }
.name span { display: flex; align-items: center; gap: 8px; }
.wide td, .wide thead th { white-space: nowrap; }
.wide thead td { border-bottom: 1px solid var(--dim); }
td.word, th.word { text-align: left; }
.interval { width: 140px; height: 18px; display: block; }
.star { color: var(--c0); }
.controls { display: flex; flex-wrap: wrap; gap: 8px 16px; margin: 6px 0 8px; font-size: 13px; }
.controls label { color: var(--dim); display: flex; align-items: center; gap: 6px;
  min-width: 0; max-width: 100%; }
select, input, button { font: inherit; color: var(--ink); background: var(--ground);
  border: 1px solid var(--dim); border-radius: 6px; padding: 4px 8px; min-width: 0; }
select { max-width: 100%; text-overflow: ellipsis; }
.search { flex: 1 1 220px; } .search input { flex: 1; font-size: 15px; padding: 5px 10px; }
.queries { width: 100%; }
.queries th, .queries td { vertical-align: top; padding: 6px 10px; }
.queries thead th { position: sticky; top: 0; background: var(--ground); z-index: 1;
  max-width: 180px; }
.queries thead th + th { min-width: 96px; }
.queries thead button { border: 0; background: none; padding: 0; font-weight: 600;
  cursor: pointer; text-align: inherit; overflow-wrap: anywhere; }
.query { cursor: pointer; } .query:hover { background: var(--card); }
.query th { font-weight: 400; width: 60%; overflow-wrap: anywhere; }
.queries .id { color: var(--dim); overflow-wrap: anywhere; }
.query button { border: 0; background: none; padding: 0; margin-right: 6px; cursor: pointer;
  text-align: left; }
.query button::before { content: "▸"; display: inline-block; width: 14px; }
.query button[aria-expanded=true]::before { content: "▾"; }
.change { font-weight: 600; white-space: nowrap; }
.up { color: var(--c0); } .down { color: var(--c1); }
.detail td { text-align: left; background: var(--card); padding: 12px 14px; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr));
  gap: 16px 28px; }
.sides section { min-width: 0; }
.sides ol { list-style: none; margin: 0; padding: 0; }
.sides li { display: flex; flex-wrap: wrap; gap: 2px 8px; align-items: baseline;
  padding: 6px 0; border-top: 1px solid var(--grid); }
.sides li p { flex-basis: 100%; margin: 0 0 0 28px; overflow-wrap: anywhere; }
.sides .id { color: var(--ink); min-width: 0; } .rank { width: 20px; text-align: right; }
.grade { border-radius: 4px; padding: 0 6px; font-size: 12px; font-weight: 600;
  white-space: nowrap; }
.good { color: var(--good); background: var(--good-ground); }
.bad { color: var(--bad); background: var(--bad-ground); }
.unknown { color: var(--ink); background: var(--unknown-ground); }
.many .other { display: none; } .query { scroll-margin-top: 60px; }
@media (max-width: 900px) { .other { display: none; } }
.more { cursor: pointer; padding: 6px 14px; }
@media (max-width: 640px) { body { padding: 16px 14px 40px; } figure { padding: 10px 8px 6px; }
  svg text { font-size: 16px; } .wide th, .wide td { padding: 4px 8px; }
  .queries th, .queries td { padding: 6px 5px; } .query th { width: auto; }
  .queries thead th { font-size: 12px; } .queries thead th + th { min-width: 62px; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h1 { font-size: 18px; }
  .controls, .more, .about.live { display: none; } figure, tr { break-inside: avoid; }
  h2 { font-size: 14px; margin: 18px 0 6px; } .over, .legend, .grade, table { font-size: 10px; }
  .charts { grid-template-columns: 1fr 1fr; }
  .wide { overflow: visible; } .wide th, .wide td { padding: 3px 5px; }
  .wide thead th { white-space: normal; } .name { min-width: 90px; max-width: 200px; }
  .interval { width: 84px; } .queries thead th { position: static; } }
"""
