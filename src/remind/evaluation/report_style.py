"""The report's style sheet and its few lines of script."""

CSS = """
:root { --bg: #fbfbf9; --card: #fff; --ink: #1d2129; --soft: #626b7a; --line: #e3e4e0; --accent: #2f6fed;
  --tint: #eef3fe }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1c1f25; --ink: #e8eaee; --soft: #9aa3b2;
  --line: #30343c; --accent: #7ba4ff; --tint: #1e2940 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 28px 18px 80px }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.4rem); line-height: 1.15; margin: .2em 0; letter-spacing: -.02em }
h2 { font-size: 1.35rem; margin: 2.4em 0 .5em; letter-spacing: -.01em }
h3 { font-size: 1.05rem; margin: 0 0 .2em }
p { margin: .5em 0; max-width: 75ch }
.soft, .tick { color: var(--soft); fill: var(--soft) }
.lead { font-size: 1.1rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 16px 18px;
  margin: 14px 0 }
.run { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 6px 22px;
  margin: 18px 0 0; font-size: .88rem }
.run div { border-top: 1px solid var(--line); padding-top: 5px; min-width: 0 }
.run dt { color: var(--soft) }
.run dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { padding: 7px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom }
td.part { white-space: normal; min-width: 150px }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card) }
td small { display: block; color: var(--soft); font-size: .78em; font-weight: 400 }
tr.ours td { background: var(--tint); font-weight: 600 }
tr.first td { border-top: 2px solid var(--soft) }
.dot, .key i { display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .45em }
svg.chart { width: 100%; height: auto; display: block }
.scroll svg.chart { min-width: 640px }
.tick { font-size: 12px }
.name { font-size: 13px; fill: currentColor }
.grid { stroke: var(--line) }
.cell { font-size: 12px }
svg.heat { width: 100%; height: auto }
.hatch { stroke: var(--soft); opacity: .55 }
.absent { stroke: var(--line) }
.heats { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 16px }
figure { margin: 0 }
figcaption { font-weight: 600; margin-bottom: 6px }
.legend { font-size: .82rem; color: var(--soft); margin: .3em 0 }
.key { display: inline-block; margin-right: 14px; white-space: nowrap }
.strip { min-width: 900px }
.strip .row { display: grid; grid-template-columns: 104px 1fr; align-items: center; gap: 6px; margin: 2px 0 }
.strip .row > b { font-size: .8rem; font-weight: 600; overflow-wrap: anywhere; position: sticky; left: 0;
  background: var(--card); align-self: stretch; display: flex; align-items: center }
.strip img { width: 100%; display: block; image-rendering: pixelated }
.strip .heads { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr }
.strip .heads span { margin: 0 2px; font-size: .72rem; text-align: center; color: #fff; border-radius: 4px }
.phases span { color: #fff; border-radius: 4px; padding: 1px 8px; font-size: .78rem; margin-right: 6px }
video { width: 100%; max-width: 660px; border-radius: 10px; background: #181818; display: block }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 18px;
  align-items: start; margin-top: 14px }
.two > * { min-width: 0 }
dl.words dt { font-weight: 600; margin-top: .8em }
dl.words dt:first-child { margin-top: 0 }
dl.words dd { margin: 0; max-width: 75ch }
ul.card { padding-left: 36px }
ul.card li { max-width: 75ch; margin: .35em 0 }
summary { cursor: pointer; color: var(--accent) }
"""

# Clips play while they are in view and rest otherwise; whoever asked for less motion starts them by hand.
SCRIPT = """
if (!matchMedia("(prefers-reduced-motion: reduce)").matches && "IntersectionObserver" in window) {
  const watch = new IntersectionObserver(entries => entries.forEach(entry =>
    entry.isIntersecting ? entry.target.play().catch(() => {}) : entry.target.pause()), { threshold: 0.4 });
  document.querySelectorAll("video").forEach(video => watch.observe(video));
}
"""
