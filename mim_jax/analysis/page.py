"""The page around a report: its template, style sheet and the script that sorts tables."""

from string import Template

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #636c76; --line: #d8dee4; --page: #ffffff; --soft: #f5f7f9;
        --link: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --faint: #9aa4b0; --line: #3a424c; --page: #15191e; --soft: #1e242b; --link: #6cb2ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; margin: .75rem 0; white-space: pre-line; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 1rem 0 0; }
figure { margin: 1.5rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
             border-radius: 6px; padding: .6rem; }
figcaption, .note { color: var(--faint); font-size: .88rem; max-width: 46rem; margin-top: .5rem; }
.scroll { overflow: auto; max-height: 32rem; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem; text-align: left; border-bottom: 1px solid var(--line); }
td { max-width: 26rem; }
tbody tr:last-child td { border-bottom: 0; } tbody tr:hover { background: var(--soft); }
th { position: sticky; top: 0; background: var(--soft); white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--link); }
th button::after { content: " \\2195"; opacity: .35; }
th[aria-sort=ascending] button::after { content: " \\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: " \\2193"; opacity: 1; }
.number { text-align: right; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 1.5rem 0; }
summary { cursor: pointer; padding: .6rem .9rem; font-weight: 600; }
details > :not(summary) { margin: 0; border: 0; border-top: 1px solid var(--line); border-radius: 0; }
pre { overflow: auto; margin: 0; padding: .9rem; font-size: .82rem; line-height: 1.45; background: var(--soft); }
@media print {
  :root { --ink: #000; --faint: #444; --line: #ccc; --page: #fff; --soft: #fff; }
  main { max-width: none; padding: 0; } nav { display: none; } th button::after { content: ""; }
  .scroll { max-height: none; overflow: visible; } th { position: static; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } pre { white-space: pre-wrap; }
}
"""

# Numbers sort as numbers, by the value in data-value; what is missing comes last.
SCRIPT = """
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], index = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const value = row => row.cells[index].dataset.value;
  const compare = (a, b) => (a === "") - (b === "") || sign * (
    head.classList.contains("number") ? a - b : a.localeCompare(b));
  [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach(row => body.append(row));
  head.parentNode.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}));
"""

# The policy keeps the page from loading anything, whatever text it holds.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$summary
$contents
$sections
</main>
<script>$script</script>
</body>
</html>
""")
