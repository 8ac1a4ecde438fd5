"""How a page of curves looks, on light ground and on dark.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart,
darkened on light ground and lightened on dark until lines stand out at 3 : 1. Dashes and the
shapes of marks say the same once more.
"""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f6f7f9; --ink: #1b1f24; --dim: #57606a;
  --grid: #dfe3e8; --c0: #0072b2; --c1: #c84e00; --c2: #00805c; --c3: #a8498a; --c4: #9a6700;
  --c5: #4a5a6a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --card: #1d2127; --ink: #e6e9ed;
  --dim: #9ba4ae; --grid: #333a43; --c0: #56b4e9; --c1: #ff8b4d; --c2: #33c29a; --c3: #e391c3;
  --c4: #e6b422; --c5: #a9b7c6; } }
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
