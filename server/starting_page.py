"""What a browser sees while the engine starts: one small page that waits, and then becomes the console.

It asks by a script: a refresh by HTML goes nowhere where the address has a part behind `#`, as the console's have.
"""

from __future__ import annotations

from server.console_files import digest

SECONDS = 2
SCRIPT = (
    "const ask=()=>fetch('/ready').then((answer)=>answer.ok&&location.reload()).catch(()=>{})"
    f".finally(()=>setTimeout(ask,{SECONDS * 1000}));ask()"
)
STYLE = (
    "html{font:16px/1.5 system-ui,'DejaVu Sans',sans-serif;color-scheme:light dark}"
    "body{display:grid;place-content:center;min-height:90vh;margin:0;padding:1rem;text-align:center}"
)
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="{SECONDS}"></noscript>
<title>Manyhats</title>
<style>{STYLE}</style>
<script>{SCRIPT}</script>
</head>
<body>
<main>
<h1>Manyhats</h1>
<p>The model is being loaded. The console opens here by itself.</p>
<p lang="pt-BR">O modelo está sendo carregado. O console abre aqui sozinho.</p>
</main>
</body>
</html>
""".encode()

POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {digest(SCRIPT.encode())}",
        f"style-src {digest(STYLE.encode())}",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-store",  # a browser that kept it would show it after the start
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
