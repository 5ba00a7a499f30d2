"""Pages of one file, which load nothing and run nothing: dark and light, and the colours of what is compared."""

from __future__ import annotations

from html import escape

COLOURS = 7
"""What is left has a grey one together."""


def framed(title: str, style: str, body: str, footer: str) -> str:
    """The whole file. `style` goes behind what all pages have; `body` and `footer` are HTML."""
    return _FRAME.format(title=escape(title), style=f"{_STYLE}{style}", body=body, footer=footer)


_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<footer>{footer}</footer>
</body>
</html>
"""

_STYLE = """
:root {
  --page: #f7f7f5; --card: #fff; --ink: #1c1d20; --soft: #5d626b; --rule: #e2e3e0; --hover: #0000000a; --good: #0b7a5c;
  --bad: #b3261e;
  --s0: #2f6bd8; --s1: #e28a12; --s2: #15947f; --s3: #c2417c; --s4: #7a5ad0; --s5: #8a9f1f; --s6: #2f9fd0;
  --s7: #9aa0a8;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #eceef1; --soft: #9ba1ab; --rule: #31343a; --hover: #ffffff10;
    --good: #45cfa4; --bad: #ff8a80;
    --s0: #6a9cff; --s1: #f0ad46; --s2: #3cc0a8; --s3: #ee7fae; --s4: #a98cf5; --s5: #b9cc4f; --s6: #62c3ee;
    --s7: #7d838c;
  }
}
.s0 { --c: var(--s0) } .s1 { --c: var(--s1) } .s2 { --c: var(--s2) } .s3 { --c: var(--s3) }
.s4 { --c: var(--s4) } .s5 { --c: var(--s5) } .s6 { --c: var(--s6) } .s7 { --c: var(--s7) }
* { box-sizing: border-box }
body { max-width: 1180px; margin: 0 auto; padding: 40px 24px; background: var(--page); color: var(--ink) }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px }
h1 { margin: 0; font-size: 30px; letter-spacing: -0.02em }
header p, small, footer { color: var(--soft) }
header p { margin: 0 }
svg { display: block; width: 100%; min-width: 640px; height: auto }
svg text { font-size: 12px; fill: var(--soft) }
.line { stroke: var(--rule) }
table { width: 100%; border-collapse: collapse; font-size: 14px; white-space: nowrap }
th, td { padding: 7px 0 7px 16px; border-top: 1px solid var(--rule); text-align: right; font-weight: 400 }
thead th { border: 0; color: var(--soft) }
th:first-child { padding-left: 0; text-align: left }
footer { margin-top: 28px; padding: 0 20px; font-size: 13px }
@media print { body { padding: 0 } }
"""
