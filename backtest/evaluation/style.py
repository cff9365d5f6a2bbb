"""The report's style sheet: system fonts, and a layout that a phone can show."""

STYLE = """
:root { color-scheme: light; --ink: #1f2328; --quiet: #59636e; --line: #d1d9e0; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.45 system-ui, -apple-system, sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem; }
p, ul, pre, dl { max-width: 60rem; }
h1 { font-size: 1.35rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
small { color: var(--quiet); font-size: .8rem; }
ul { padding-left: 1.2rem; color: var(--quiet); font-size: .9rem; }
.warning { border-left: 4px solid var(--bad); background: #fdecea; padding: .5rem .8rem; margin: .8rem 0; }
.bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; }
.tiles > div { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; }
.tiles b { display: block; font-size: 1.4rem; line-height: 1.3; }
.tiles small, .tiles b small { display: block; font-weight: 400; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.figures th, .figures td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figures th:first-child, .figures td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.figures th { white-space: normal; vertical-align: bottom; }
th { font-weight: 600; color: var(--quiet); }
td small { display: block; }
@media (max-width: 62rem) { /* a row becomes a list, each figure by its name: nothing is cut off */
  .scroll thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .scroll table, .scroll tbody, .scroll tr, .scroll td { display: block; width: 100%; }
  .scroll tr { border: 1px solid var(--line); border-radius: 6px; padding: .3rem .6rem; margin-bottom: .6rem; }
  .scroll td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem 0;
    white-space: normal; text-align: right; overflow-wrap: anywhere; }
  .scroll td::before { content: attr(data-name); color: var(--quiet); text-align: left; flex: none; }
  .scroll td:first-child { font-weight: 600; position: static; }
}
.charts { display: flex; flex-wrap: wrap; gap: .5rem; }
.charts svg { flex: 1 1 18rem; max-width: 28rem; height: auto; }
img { display: block; max-width: 100%; height: auto; }
.cases { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; margin-bottom: .3rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f8fa; padding: .6rem; border-radius: 6px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .88rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
"""
