"""What a browser sees while the engine starts: one small page that asks again until the console answers."""

from __future__ import annotations

from server.console_files import digest

SECONDS = 2
STYLE = (
    "html{font:16px/1.5 system-ui,'DejaVu Sans',sans-serif;color-scheme:light dark}"
    "body{display:grid;place-content:center;min-height:90vh;margin:0;padding:1rem;text-align:center}"
)
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{SECONDS}">
<title>Manyhats</title>
<style>{STYLE}</style>
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

HEADERS = {
    "Cache-Control": "no-store",  # a browser that kept it would show it after the start
    "Content-Security-Policy": f"default-src 'none'; style-src {digest(STYLE.encode())}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
